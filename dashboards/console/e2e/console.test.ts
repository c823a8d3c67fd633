/** The console in real Chromium against a demonstration of its own: 中文 and English, desk and phone, store away and back. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";

const BINARY = resolve(process.env["TONGXING_BINARY"] ?? "../../target/debug/tongxing");
const SHOTS = process.env["TONGXING_SCREENSHOTS"];
const TIMEOUT = 120_000;

let demo: ChildProcess | undefined;
let browser: Browser | undefined;
let data: string | undefined;
let origin: string;

async function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        done(typeof address === "object" && address ? address.port : 0);
      });
    });
  });
}

beforeAll(async () => {
  if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: cargo build --package launcher`);
  data = mkdtempSync(join(tmpdir(), "tongxing-console-"));
  const [ingest, query, clickhouse] = [await freePort(), await freePort(), await freePort()];
  origin = `http://127.0.0.1:${query}`;
  const started = spawn(
    BINARY,
    ["demo", "--data", data, "--people", "500", "--check-ins", "50", "--lookups", "50", "--seconds", "600"].concat(
      ["--ingest-listen", `127.0.0.1:${ingest}`, "--query-listen", `127.0.0.1:${query}`],
      ["--clickhouse-listen", `127.0.0.1:${clickhouse}`],
    ),
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  demo = started;
  let printed = "";
  await new Promise<void>((ready, failed) => {
    started.stdout.on("data", (chunk: Buffer) => {
      printed += chunk.toString();
      if (printed.includes("live:")) ready();
    });
    started.once("exit", (code) => {
      failed(new Error(`the demonstration ended with ${code ?? "a signal"}: ${printed}`));
    });
  });
  browser = await chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}, TIMEOUT);

afterAll(async () => {
  await browser?.close();
  const started = demo;
  if (started?.exitCode === null && started.signalCode === null) {
    const ended = new Promise((done) => started.once("exit", done));
    started.kill("SIGTERM");
    await ended;
  }
  if (data) rmSync(data, { recursive: true, force: true });
}, TIMEOUT);

async function openPage(address: string, viewport = { width: 1280, height: 900 }): Promise<{ page: Page; errors: string[] }> {
  if (!browser) throw new Error("Chromium did not start");
  const page = await browser.newPage({ viewport, locale: "zh-CN" });
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(`${origin}/${address}`);
  return { page, errors };
}

async function figure(page: Page, panel: number): Promise<number> {
  const stat = page.locator(`[data-panel="${panel}"] p.stat`);
  await stat.waitFor();
  return Number(await stat.getAttribute("data-value"));
}

async function shot(page: Page, name: string): Promise<void> {
  if (SHOTS) await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
}

it("draws the flow of the simulated day, in Chinese first", async () => {
  const { page, errors } = await openPage("?traffic=1");
  await expect.poll(() => figure(page, 1), { timeout: 30_000 }).toBeGreaterThan(0);
  await page.locator('[data-panel="5"] canvas').waitFor();
  expect(await page.locator("h1").textContent()).toBe("通行 · 统计");
  expect(await page.locator('[data-panel="1"] h2').textContent()).toBe("全部场所 人次");
  expect(await page.locator('[data-panel="5"] .series').getAttribute("data-points")).not.toBe("0");
  expect(await page.locator(".failed").count()).toBe(0);
  const types = page.locator("section.barchart", { hasText: "场所类型" }).locator(".name");
  await types.first().waitFor();
  for (const type of await types.allTextContents()) expect(type).toMatch(/^\p{Script=Han}+$/u);
  await shot(page, "venue-flow-zh");
  expect(errors).toEqual([]);
  await page.close();
}, TIMEOUT);

it("keeps load-test traffic out of statistics unless it is asked for (X11)", async () => {
  const { page } = await openPage("");
  expect(await figure(page, 1)).toBe(0);
  await page.locator('select[name="traffic"]').selectOption("1");
  await expect.poll(() => figure(page, 1), { timeout: 30_000 }).toBeGreaterThan(0);
  await page.close();
}, TIMEOUT);

it("speaks English, and remembers it", async () => {
  const { page } = await openPage("?traffic=1");
  await page.locator("button.language").click();
  await expect.poll(() => page.locator("h1").textContent()).toBe("Tongxing · Statistics");
  await expect.poll(() => page.locator('[data-panel="1"] h2').textContent()).toBe("All venues: registrations");
  expect(await page.locator("html").getAttribute("lang")).toBe("en");
  expect(page.url()).toContain("lang=en");
  const types = page.locator("section.barchart", { hasText: "venue type" }).locator(".name");
  await types.first().waitFor();
  for (const type of await types.allTextContents()) expect(type).toMatch(/^[a-z ]+$/);
  await shot(page, "venue-flow-en");
  await page.close();
}, TIMEOUT);

it("draws every panel of every dashboard without a failure", async () => {
  for (const name of readdirSync("../grafana/dashboards")) {
    const file = JSON.parse(readFileSync(join("../grafana/dashboards", name), "utf8")) as { uid: string; panels: { id: number }[] };
    const { page, errors } = await openPage(`?traffic=1&dashboard=${file.uid}&lang=en`);
    for (const panel of file.panels) {
      await page.locator(`[data-panel="${panel.id}"] .body > *`).first().waitFor();
    }
    expect(await page.locator(".failed").allTextContents()).toEqual([]);
    await shot(page, file.uid);
    expect(errors).toEqual([]);
    await page.close();
  }
}, TIMEOUT);

it("offers venues as soon as there are some, without being opened again", async () => {
  if (!browser) throw new Error("Chromium did not start");
  const page = await browser.newPage({ locale: "zh-CN" });
  let asked = 0;
  // The first answer is that of a day on which nobody has checked in yet.
  await page.route("**/variables/venue", async (route) => {
    asked += 1;
    if (asked > 1) await route.continue();
    else await route.fulfill({ json: { columns: [], rows: [] } });
  });
  await page.goto(`${origin}/?traffic=1`);
  const venues = page.locator('select[name="venue"]');
  await venues.waitFor();
  expect(await venues.locator("option").count()).toBe(0);
  await expect.poll(() => venues.locator("option").count(), { timeout: 30_000 }).toBeGreaterThan(0);
  await expect.poll(() => figure(page, 3), { timeout: 30_000 }).toBeGreaterThan(0);
  await page.close();
}, TIMEOUT);

it("works on a phone without scrolling sideways", async () => {
  const { page } = await openPage("?traffic=1", { width: 390, height: 844 });
  await expect.poll(() => figure(page, 1), { timeout: 30_000 }).toBeGreaterThan(0);
  await page.locator('[data-panel="5"] canvas').waitFor();
  const widths = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  expect(widths[0]).toBeLessThanOrEqual(widths[1] ?? 0);
  await shot(page, "venue-flow-phone");
  await page.close();
}, TIMEOUT);

it("fits its charts to a phone that is turned, before it refreshes by itself", async () => {
  const { page } = await openPage("?traffic=1", { width: 844, height: 390 });
  await page.locator('[data-panel="5"] canvas').waitFor();
  await page.clock.install();
  await page.setViewportSize({ width: 390, height: 844 });
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  expect(await overflow()).toBeGreaterThan(0);
  await page.clock.runFor(1000);
  await expect.poll(overflow, { timeout: 5000 }).toBeLessThanOrEqual(0);
  await page.close();
}, TIMEOUT);

it("shows freshness, and figures that grow", async () => {
  const { page } = await openPage("?traffic=1&lang=en");
  await expect.poll(() => page.locator(".notice").textContent(), { timeout: 30_000 }).toContain("Complete up to");
  const first = await figure(page, 1);
  await expect.poll(() => figure(page, 1), { timeout: 40_000, interval: 1000 }).toBeGreaterThan(first);
  await page.close();
}, TIMEOUT);
