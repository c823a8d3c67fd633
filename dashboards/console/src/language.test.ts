import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { half, shown } from "./language";
import { VENUE_TYPES } from "./venue_type";

describe("half", () => {
  it("takes the half of a bilingual text", () => {
    expect(half("全部场所 人次 All venues: registrations", "zh")).toBe("全部场所 人次");
    expect(half("全部场所 人次 All venues: registrations", "en")).toBe("All venues: registrations");
    expect(half("人数 people", "en")).toBe("people");
    expect(half("含压测 With synthetic", "zh")).toBe("含压测");
  });
  it("leaves a text of one half alone", () => {
    expect(half("0–14", "en")).toBe("0–14");
    expect(half("mall", "zh")).toBe("mall");
    expect(half("天河路商场1号", "en")).toBe("天河路商场1号");
  });
});

describe("shown", () => {
  it("names every venue type of the tables in both languages", () => {
    const schema = readFileSync("../../crates/warehouse/migrations/0001_scans.sql", "utf8");
    const declared = /venue_type\s+Enum8\((.*?)\)/.exec(schema)?.[1] ?? "";
    const codes = [...declared.matchAll(/'(\w+)'/g)].map((match) => match[1] ?? "");
    expect(codes.length).toBeGreaterThan(10);
    expect(Object.keys(VENUE_TYPES)).toEqual(codes);
    for (const code of codes) {
      expect(shown(code, "zh")).toMatch(/^\p{Script=Han}+$/u);
      expect(shown(code, "en")).toMatch(/^[a-z ]+$/);
    }
  });
  it("leaves other texts to their halves", () => {
    expect(shown("男 male", "zh")).toBe("男");
    expect(shown("天河路商场1号", "en")).toBe("天河路商场1号");
  });
});
