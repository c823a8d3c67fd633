import { VENUE_TYPES } from "./venue_type";

/** The console's two languages. Dashboards carry both in one text: 中文 first, English from the first Latin letter on. */
export type Language = "zh" | "en";

const WORDS = {
  title: { zh: "通行 · 统计", en: "Tongxing · Statistics" },
  range: { zh: "时间", en: "Range" },
  today: { zh: "今天", en: "Today" },
  last24: { zh: "近24小时", en: "Last 24 hours" },
  last7: { zh: "近7天", en: "Last 7 days" },
  last31: { zh: "近31天", en: "Last 31 days" },
  completeUpTo: { zh: "统计截至", en: "Complete up to" },
  unknown: { zh: "未知", en: "unknown" },
  empty: { zh: "该时段没有数据", en: "No data in this range" },
  failed: { zh: "查询失败", en: "The query failed" },
  choose: { zh: "请先选择", en: "Choose first" },
  otherLanguage: { zh: "English", en: "中文" },
  refreshing: { zh: "每10秒刷新", en: "Refreshes every 10 s" },
  offline: { zh: "服务暂不可达,正在重试", en: "The service does not answer; retrying" },
} as const;

export type Word = keyof typeof WORDS;

/** A word of the console's own. */
export function word(language: Language, key: Word): string {
  return WORDS[key][language];
}

/** The half of a bilingual text that belongs to a language; the whole text where it has one half only. */
export function half(text: string, language: Language): string {
  const match = /^([^A-Za-z]*[^A-Za-z\s(])\s+([A-Za-z].*)$/u.exec(text);
  if (!match) return text;
  const [, chinese, english] = match;
  return (language === "zh" ? chinese : english)?.trim() ?? text;
}

/** A text of an answer as people read it: a venue type by its name, any other by the half that belongs to the language. */
export function shown(text: string, language: Language): string {
  return VENUE_TYPES[text]?.[language] ?? half(text, language);
}

/** The language asked for in the address, kept from the last visit, or the browser's. */
export function initialLanguage(search: URLSearchParams): Language {
  const asked = search.get("lang") ?? localStorage.getItem("language") ?? navigator.language;
  return asked.startsWith("en") ? "en" : "zh";
}
