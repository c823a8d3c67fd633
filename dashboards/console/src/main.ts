/** The console: the Grafana dashboards of this repository, drawn without Grafana. */
import { api, type Asked, type Dashboard, type Panel } from "./api";
import { element } from "./dom";
import { half, initialLanguage, word, type Language } from "./language";
import { drawBars } from "./panels/bars";
import { drawSeries } from "./panels/series";
import { drawStat } from "./panels/stat";
import { drawTable } from "./panels/table";
import { RANGES, shanghai } from "./range";
import "./style.css";

const REFRESH_MS = 10_000;
/** How long a window keeps its size before charts are drawn for it: a phone that turns says many sizes. */
const RESIZED_MS = 150;

const search = new URLSearchParams(location.search);
let language: Language = initialLanguage(search);
let rangeKey = search.get("range") ?? "today";
let uid = search.get("dashboard") ?? "tongxing-venue-flow";
let dashboards: { uid: string; title: string }[] = [];
let dashboard: Dashboard | null = null;
/** Chosen variable values by name; those of the address come first. */
const chosen = new Map<string, string>([...search].filter(([name]) => !["lang", "range", "dashboard"].includes(name)));
/** Rises with every change, so that late answers of an earlier state are dropped. */
let state = 0;

const app = document.querySelector<HTMLDivElement>("#app") ?? document.body;
const header = element("header");
const controls = element("nav", { class: "controls" });
const notice = element("p", { class: "notice", role: "status" });
const grid = element("main", { class: "grid" });
app.append(header, controls, notice, grid);

function asked(): Asked {
  const chosenRange = RANGES.find((candidate) => candidate.key === rangeKey) ?? RANGES[0];
  const { from, to } = chosenRange?.range(Date.now()) ?? { from: new Date(), to: new Date() };
  return { from: from.toISOString(), to: to.toISOString(), variables: Object.fromEntries(chosen) };
}

function remember(): void {
  const kept = new URLSearchParams({ dashboard: uid, range: rangeKey, lang: language, ...Object.fromEntries(chosen) });
  history.replaceState(null, "", `?${kept.toString()}`);
}

function drawHeader(): void {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  const tabs = dashboards.map(({ uid: other, title }) => {
    const tab = element("button", { class: other === uid ? "tab active" : "tab", type: "button" }, half(title, language));
    tab.addEventListener("click", () => {
      uid = other;
      void open();
    });
    return tab;
  });
  const toggle = element("button", { class: "language", type: "button" }, word(language, "otherLanguage"));
  toggle.addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    localStorage.setItem("language", language);
    void open();
  });
  header.replaceChildren(element("h1", {}, word(language, "title")), element("div", { class: "tabs" }, ...tabs), toggle);
}

function select(name: string, label: string, options: { value: string; text: string }[], value: string): HTMLElement {
  const list = element("select", { name }, ...options.map((o) => element("option", { value: o.value }, o.text)));
  list.value = value;
  list.addEventListener("change", () => {
    if (name === "range") rangeKey = list.value;
    else chosen.set(name, list.value);
    void open();
  });
  return element("label", {}, element("span", {}, label), list);
}

async function drawControls(current: Dashboard, mine: number): Promise<void> {
  const ranges = RANGES.map((range) => ({ value: range.key, text: word(language, range.word) }));
  const made: HTMLElement[] = [select("range", word(language, "range"), ranges, rangeKey)];
  // Custom variables first: queries of others may use them.
  const variables = [...current.templating.list].sort((a, b) => Number(a.type === "query") - Number(b.type === "query"));
  for (const variable of variables) {
    let options = (variable.options ?? []).map((o) => ({ value: o.value, text: half(o.text, language) }));
    if (variable.type === "query") {
      const frame = await api.variable(current.uid, variable.name, asked());
      options = frame.rows.map((row) => ({ value: String(row[0]), text: half(String(row[1]), language) }));
    }
    if (mine !== state) return;
    const known = options.some((option) => option.value === chosen.get(variable.name));
    const first = variable.options?.find((option) => option.selected)?.value ?? options[0]?.value;
    if (!known && first !== undefined) chosen.set(variable.name, first);
    if (!known && first === undefined) chosen.set(variable.name, "0");
    made.push(select(variable.name, half(variable.label, language), options, chosen.get(variable.name) ?? ""));
  }
  controls.replaceChildren(...made);
}

function drawBody(panel: Panel, body: HTMLElement, frames: Awaited<ReturnType<typeof api.panel>>["frames"]): void {
  const frame = frames[0];
  if (!frame || (frame.rows.length === 0 && panel.type !== "stat")) {
    body.replaceChildren(element("p", { class: "empty" }, word(language, "empty")));
    return;
  }
  const height = panel.gridPos.h * 30 - 70;
  // What is drawn now may be wider than there is room.
  body.replaceChildren();
  const draw: Record<string, (() => HTMLElement) | undefined> = {
    stat: () => drawStat(frame, panel.fieldConfig.defaults.unit ?? "short"),
    timeseries: () => drawSeries(frame, language, body.clientWidth, height),
    table: () => drawTable(frame, language),
    barchart: () => drawBars(frame, language),
  };
  body.replaceChildren(draw[panel.type]?.() ?? element("p", { class: "empty" }, panel.type));
}

async function fill(current: Dashboard, mine: number): Promise<void> {
  const fillOne = async (panel: Panel): Promise<void> => {
    const body = grid.querySelector<HTMLElement>(`[data-panel="${panel.id}"] .body`);
    if (!body) return;
    try {
      const { frames } = await api.panel(current.uid, panel.id, asked());
      if (mine !== state) return;
      drawBody(panel, body, frames);
    } catch (error) {
      if (mine !== state) return;
      const reason = error instanceof Error ? error.message : "";
      body.replaceChildren(element("p", { class: "failed" }, `${word(language, "failed")}: ${reason}`));
    }
  };
  await Promise.all([showFreshness(), ...current.panels.map(fillOne)]);
}

async function showFreshness(): Promise<void> {
  try {
    const { complete_up_to } = await api.freshness();
    const time = complete_up_to === null ? word(language, "unknown") : shanghai(Date.parse(complete_up_to), true);
    notice.textContent = `${word(language, "completeUpTo")} ${time} (UTC+8) · ${word(language, "refreshing")}`;
    notice.classList.remove("offline");
  } catch {
    notice.textContent = word(language, "offline");
    notice.classList.add("offline");
  }
}

function drawFrames(current: Dashboard): void {
  const cards = current.panels.map((panel) => {
    const card = element(
      "section",
      { class: `card ${panel.type}`, "data-panel": String(panel.id) },
      element("h2", {}, half(panel.title, language)),
      element("div", { class: "body" }),
    );
    card.style.setProperty("--span", String(panel.gridPos.w));
    return card;
  });
  grid.replaceChildren(...cards);
}

async function open(): Promise<void> {
  const mine = ++state;
  try {
    if (dashboards.length === 0) dashboards = await api.dashboards();
    if (dashboard?.uid !== uid) dashboard = await api.dashboard(uid);
    if (mine !== state) return;
    drawHeader();
    await drawControls(dashboard, mine);
    if (mine !== state) return;
    remember();
    drawFrames(dashboard);
    await fill(dashboard, mine);
  } catch {
    notice.textContent = word(language, "offline");
    notice.classList.add("offline");
    dashboard = null;
    setTimeout(() => void (mine === state && open()), 2000);
  }
}

/** Whether there was nothing to choose from: early in a day no venue has flow yet. */
function lacksChoice(): boolean {
  return [...controls.querySelectorAll("select")].some((list) => list.options.length === 0);
}

async function refresh(current: Dashboard, mine: number): Promise<void> {
  if (lacksChoice()) {
    try {
      await drawControls(current, mine);
    } catch {
      // What the panels say of a service that is away is enough.
    }
    if (mine !== state) return;
    remember();
  }
  await fill(current, mine);
}

setInterval(() => {
  if (dashboard && !document.hidden) void refresh(dashboard, state);
}, REFRESH_MS);

let resized: ReturnType<typeof setTimeout> | undefined;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => void (dashboard && fill(dashboard, state)), RESIZED_MS);
});

void open();
