// Makes a picture of a dashboard of deploy/grafana, of a Grafana that runs with it (deploy/compose.yaml):
//   NODE_FOLDER=~/.cache/tidelake-tests/node CHROMIUM=/usr/bin/chromium grafana_screenshot.mjs http://127.0.0.1:3000 DASHBOARD FILE
// DASHBOARD is `tidelake` or `tidelake-node`. GRAFANA_LOGIN is user:password, FROM the beginning of the time that is shown.
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { launch, newPage } from "./session.mjs";

/** Most bytes of a picture in the repository. */
const MAX_BYTES = 150_000;
const [base, dashboard, file] = process.argv.slice(2);
const [user, password] = (process.env.GRAFANA_LOGIN ?? "admin:admin").split(":");
const browser = await launch();
try {
  const { page } = await newPage(browser, { viewport: { width: 1280, height: 760 }, colorScheme: "light" });
  const login = await page.request.post(`${base}/login`, { data: { user, password } });
  assert.ok(login.ok(), `Grafana's login answers ${login.status()}: is GRAFANA_LOGIN right?`);
  const shown = new URLSearchParams({ kiosk: "true", theme: "light", from: process.env.FROM ?? "now-30m", to: "now" });
  const answer = await page.goto(`${base}/d/${dashboard}?${shown}`);
  assert.ok(answer.ok(), `the dashboard ${dashboard} answers ${answer.status()}`);
  await page.locator(".uplot canvas").first().waitFor();
  await page.waitForLoadState("networkidle");
  // Panels draw after their answer is there.
  await page.waitForTimeout(1500);
  const empty = await page.getByText("No data", { exact: true }).count();
  if (empty > 0) console.warn(`${empty} panels have no data: look at the picture`);
  await page.screenshot({ path: file });
  const { size } = statSync(file);
  assert.ok(size <= MAX_BYTES, `${file} has ${size} bytes, and may have ${MAX_BYTES}`);
} finally {
  await browser.close();
}
