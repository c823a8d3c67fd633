import type { Frame } from "../api";
import { element } from "../dom";

/** One figure, large. */
export function drawStat(frame: Frame, unit: string): HTMLElement {
  const value = Number(frame.rows[0]?.[0] ?? 0);
  const text =
    unit === "percentunit" ? `${(value * 100).toFixed(3)} %` : new Intl.NumberFormat("en-US").format(value);
  return element("p", { class: "stat", "data-value": String(value) }, text);
}
