/** Time ranges, in days and hours of Asia/Shanghai (UTC+8 without daylight saving). */
import type { Word } from "./language";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const OFFSET = 8 * HOUR;

export interface Range {
  from: Date;
  to: Date;
}

export const RANGES: { key: string; word: Word; range: (now: number) => Range }[] = [
  { key: "today", word: "today", range: (now) => ({ from: new Date(startOfDay(now)), to: new Date(now) }) },
  { key: "24h", word: "last24", range: (now) => ({ from: new Date(now - DAY), to: new Date(now) }) },
  { key: "7d", word: "last7", range: (now) => ({ from: new Date(startOfDay(now) - 6 * DAY), to: new Date(now) }) },
  { key: "31d", word: "last31", range: (now) => ({ from: new Date(startOfDay(now) - 30 * DAY), to: new Date(now) }) },
];

/** Midnight in Shanghai before an instant. */
export function startOfDay(time: number): number {
  return Math.floor((time + OFFSET) / DAY) * DAY - OFFSET;
}

/** An instant as Shanghai's clock shows it: `11-21 08:00`. */
export function shanghai(time: number, withSeconds = false): string {
  const text = new Date(time + OFFSET).toISOString();
  return `${text.slice(5, 10)} ${text.slice(11, withSeconds ? 19 : 16)}`;
}
