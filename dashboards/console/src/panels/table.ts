import type { Frame } from "../api";
import { element } from "../dom";
import { half, shown, type Language } from "../language";

const isNumber = (type: string): boolean => /^(Nullable\()?(UInt|Int|Float|Decimal)/.test(type);

/** Rows and columns; the newest answer's order is kept. */
export function drawTable(frame: Frame, language: Language): HTMLElement {
  const heads = frame.columns.map((column) =>
    element("th", isNumber(column.type) ? { class: "number" } : {}, half(column.name, language)),
  );
  const format = new Intl.NumberFormat("en-US");
  const rows = frame.rows.map((row) =>
    element(
      "tr",
      {},
      ...row.map((cell, index) => {
        const numeric = isNumber(frame.columns[index]?.type ?? "");
        const text = cell === null || cell === "" ? "–" : numeric ? format.format(Number(cell)) : shown(String(cell), language);
        return element("td", numeric ? { class: "number" } : {}, text);
      }),
    ),
  );
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
  return element("div", { class: "scroll" }, table);
}
