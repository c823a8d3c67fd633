import type { Language } from "./language";

/** The venue types by the codes that the tables have, as citizens and testers call them (V1). */
export const VENUE_TYPES: Readonly<Record<string, Readonly<Record<Language, string>>>> = {
  unspecified: { zh: "未分类", en: "unspecified" },
  residential_compound: { zh: "住宅小区", en: "residential compound" },
  office: { zh: "写字楼", en: "office" },
  mall: { zh: "商场商店", en: "mall" },
  catering: { zh: "餐饮", en: "catering" },
  lodging: { zh: "酒店住宿", en: "lodging" },
  culture: { zh: "文化娱乐", en: "culture" },
  sport: { zh: "体育游乐", en: "sport" },
  transport: { zh: "交通出行", en: "transport" },
  hospital: { zh: "医院", en: "hospital" },
  airport: { zh: "机场", en: "airport" },
  port: { zh: "码头", en: "port" },
  station: { zh: "铁路公路站场", en: "station" },
  industrial_park: { zh: "工业园", en: "industrial park" },
  park: { zh: "公园", en: "park" },
  school: { zh: "学校", en: "school" },
};
