import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Frame } from "../api";
import { element } from "../dom";
import { half, type Language } from "../language";
import { shanghai } from "../range";

const COLOURS = ["#127a4b", "#c8553d", "#3d6fb4", "#8a6d3b"];

/** Seconds since the epoch of a ClickHouse time that is written in Shanghai's clock. */
export function secondsOf(text: string): number {
  return Date.parse(`${text.replace(" ", "T")}+08:00`) / 1000;
}

/** A series over time, drawn as steps; the first column is the time. */
export function drawSeries(frame: Frame, language: Language, width: number, height: number): HTMLElement {
  const times = frame.rows.map((row) => secondsOf(String(row[0])));
  const step = (times[1] ?? (times[0] ?? 0) + 3600) - (times[0] ?? 0);
  const values = frame.columns.slice(1).map((_, index) => frame.rows.map((row) => Number(row[index + 1] ?? 0)));
  const host = element("div", { class: "series", "data-points": String(times.length) });
  const bars = uPlot.paths.bars?.({ size: [0.8, 60] });
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink");
  const axis = { stroke: ink, grid: { stroke: style.getPropertyValue("--line"), width: 1 } };
  new uPlot(
    {
      width: Math.max(260, width),
      height: Math.max(140, height),
      // Half a step on both sides, so that the first and the last bar are whole.
      scales: { x: { time: true, range: (_, min, max) => [min - step / 2, max + step / 2] }, y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] } },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((tick) => shanghai(tick * 1000).replace(" ", "\n")), space: 60 },
        { ...axis, size: 60 },
      ],
      series: [
        {
          label: language === "zh" ? "时间" : "time",
          value: (_, time: number | null) => (time === null ? "–" : shanghai(time * 1000)),
        },
        ...values.map((_, index) => {
          const colour = COLOURS[index % COLOURS.length] ?? "#127a4b";
          const label = half(frame.columns[index + 1]?.name ?? "", language);
          return index === 0 && bars
            ? { label, stroke: colour, fill: `${colour}66`, paths: bars, points: { show: false } }
            : { label, stroke: colour, width: 2, points: { show: times.length < 40 } };
        }),
      ],
    },
    [times, ...values],
    host,
  );
  return host;
}
