import type { Frame } from "../api";
import { element } from "../dom";
import { shown, type Language } from "../language";

/** Horizontal bars: a name and a figure each. */
export function drawBars(frame: Frame, language: Language): HTMLElement {
  const most = Math.max(1, ...frame.rows.map((row) => Number(row[1] ?? 0)));
  const format = new Intl.NumberFormat("en-US");
  const bars = frame.rows.map((row) => {
    const value = Number(row[1] ?? 0);
    const bar = element("span", { class: "bar" });
    bar.style.width = `${(value / most) * 100}%`;
    return element(
      "li",
      {},
      element("span", { class: "name" }, shown(String(row[0] ?? ""), language)),
      element("span", { class: "track" }, bar),
      element("span", { class: "number" }, format.format(value)),
    );
  });
  return element("ul", { class: "bars" }, ...bars);
}
