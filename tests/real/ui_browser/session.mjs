// A browser with pages that fail the test by what they log.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

/** Packages that install.sh puts beside the virtual environment. */
export const packages = createRequire(`${process.env.NODE_FOLDER}/package.json`);
const { chromium } = packages("playwright-core");

/** A step's longest time in ms: the server is a debug build on a busy machine. */
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 30_000);

export async function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
}

/** A page of its own browser context; `complaints` are its errors and what its policy refused. */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 860 }, permissions: ["clipboard-read", "clipboard-write"], ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`${error}`));
  page.on("console", (message) => {
    // Refused requests are tested on purpose.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) complaints.push(message.text());
  });
  page.on("dialog", (dialog) => complaints.push(`a dialog: ${dialog.message()}`));
  await page.addInitScript(watchFrames);
  return { page, context, complaints };
}

/** Runs in the page: how long each frame took, and what the policy refused. */
function watchFrames() {
  window.frameTimes = [];
  window.refused = [];
  document.addEventListener("securitypolicyviolation", (event) => window.refused.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
  let last = performance.now();
  const frame = () => {
    const now = performance.now();
    window.frameTimes.push(now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

/** Nothing went wrong on the page besides what the steps looked at. */
export async function checkQuiet({ page, complaints }) {
  assert.deepEqual(complaints, []);
  assert.deepEqual(await page.evaluate(() => window.refused), []);
}

/** An address of the page. */
export function address(base, view, fields = []) {
  return `${base}/#/${view}?${new URLSearchParams(fields)}`;
}

/** Types a query into the editor of the first panel. */
export async function type(page, text) {
  const content = page.locator(".editor-host .cm-content").first();
  await content.waitFor();
  await content.click();
  await page.keyboard.press("Control+A");
  await page.keyboard.press("Delete");
  await page.keyboard.type(text, { delay: 15 });
}

/** The longest task of the page's main thread while `work` is done, in ms of processor time: others share the machine. */
export async function longestTask(browser, page, work) {
  await browser.startTracing(page, { categories: ["toplevel", "disabled-by-default-devtools.timeline"] });
  await work();
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString());
  const mains = new Set(traceEvents.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain").map(({ pid, tid }) => `${pid} ${tid}`));
  const tasks = traceEvents.filter(({ name, pid, tid, tdur }) => /RunTask$/.test(name) && tdur !== undefined && mains.has(`${pid} ${tid}`));
  assert.ok(tasks.length > 10, `${tasks.length} tasks were traced`);
  return Math.round(Math.max(...tasks.map(({ tdur }) => tdur)) / 1000);
}

/** Waits until a graph is painted again. */
export async function painted(page, after) {
  await page.waitForFunction((before) => (document.querySelector("[data-painted]")?.dataset.painted ?? before) !== before, after);
}
