import { describe, expect, it } from "vitest";
import { half } from "./language";

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
