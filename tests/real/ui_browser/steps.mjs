// What a user does on the page, and what must then be seen.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { address, checkQuiet, launch, longestTask, newPage, packages, painted, type } from "./session.mjs";

const { OPEN_URL: open, AUTH_URL: guarded, TOKEN: token } = process.env;
const axe = readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");
const figures = {};
const browser = await launch();

/** The address of a view, in a fresh page. */
async function visit(view, fields, options) {
  const session = await newPage(browser, options);
  await session.page.goto(address(open, view, fields));
  return session;
}

async function accessible(page, name) {
  // The policy lets no script in but the page's own; a debugger is asked instead.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(serious.map(({ id, nodes }) => `${name}: ${id} ${nodes[0].html.slice(0, 120)}`), []);
}

const steps = {
  async "the first paint comes at once"() {
    const { page } = await visit("query", []);
    await page.locator(".editor").waitFor();
    const paints = [];
    // The quickest: others share the machine.
    for (let i = 0; i < 5; i += 1) {
      await page.reload();
      await page.locator(".editor").waitFor();
      const [paint] = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint").map(({ startTime }) => startTime));
      paints.push(Math.round(paint));
    }
    figures.first_paint_ms = Math.min(...paints);
    assert.ok(figures.first_paint_ms < 200, `${paints}`);
  },

  async "a query is typed with completion and drawn"() {
    const session = await visit("query", []);
    const { page } = session;
    await page.getByText("Try", { exact: true }).waitFor();
    await type(page, "load_fi");
    const option = page.locator(".cm-tooltip-autocomplete li", { hasText: "load_field_3" });
    await option.waitFor();
    await option.click();
    // The brackets and the quotation marks close by themselves.
    await page.keyboard.type('{host="h7', { delay: 40 });
    await page.locator(".cm-tooltip-autocomplete li", { hasText: /^h7$/ }).waitFor();
    await page.keyboard.press("Escape");
    await page.keyboard.press("Control+Enter");
    await painted(page, undefined);
    await page.getByText("1 series").waitFor();
    assert.match(page.url(), /q=load_field_3/);
    await page.locator(".legend tbody tr").first().waitFor();
    await checkQuiet(session);
  },

  async "dragging zooms, and the back button returns"() {
    const session = await visit("query", [["q", "load_field_1{host=~\"h[1-9]\"}"], ["from", process.env.FROM], ["to", process.env.TO]]);
    const { page } = session;
    await painted(page, undefined);
    const before = page.url();
    const area = await page.locator(".plot .u-over").boundingBox();
    await page.mouse.move(area.x + area.width / 4, area.y + 100);
    await page.mouse.down();
    await page.mouse.move(area.x + area.width / 2, area.y + 120, { steps: 8 });
    await page.mouse.up();
    await page.waitForURL((url) => url.href !== before);
    const fields = new URLSearchParams(new URL(page.url()).hash.split("?")[1]);
    const width = Date.parse(fields.get("to")) - Date.parse(fields.get("from"));
    const whole = Date.parse(process.env.TO) - Date.parse(process.env.FROM);
    assert.ok(Math.abs(width / whole - 0.25) < 0.02, `${width / whole}`);
    await page.goBack();
    assert.equal(page.url(), before);
    // Over a line, its labels and value are shown.
    await page.mouse.move(area.x + area.width / 3, area.y + 90);
    await page.locator(".tooltip dd", { hasText: /^h\d$/ }).waitFor();
    await checkQuiet(session);
  },

  async "the legend shows a series alone"() {
    const { page } = await visit("query", [["q", 'load_field_1{host=~"h[1-9]"}'], ["from", process.env.FROM], ["to", process.env.TO]]);
    const rows = page.locator(".legend tbody tr");
    await rows.first().waitFor();
    const count = await rows.count();
    await rows.nth(2).locator("button").click();
    assert.equal(await page.locator(".legend .is-hidden").count(), count - 1);
    await rows.nth(2).locator("button").click();
    assert.equal(await page.locator(".legend .is-hidden").count(), 0);
  },

  async "a plan says what was read"() {
    const session = await visit("query", [["q", "sum by (host) (rate(load_field_1[5m]))"]]);
    const { page } = session;
    await page.getByRole("tab", { name: "Explain" }).click();
    await page.locator(".plan .operator", { hasText: "Select" }).waitFor();
    for (const word of ["requests", "cache hits", "price"]) assert.equal(await page.locator(".figures", { hasText: word }).count(), 1);
    assert.match(await page.locator(".plan .read", { hasText: "samples" }).first().innerText(), /series\s*100/);
    const sql = await visit("query", [["q", "SELECT avg(field_1) FROM load"], ["lang", "sql"], ["show", "explain"]]);
    await sql.page.locator(".plan .operator", { hasText: "Scan" }).waitFor();
    await checkQuiet(session);
  },

  async "a link shows the same in another browser"() {
    const { page } = await visit("query", []);
    await type(page, "up_to_now");
    await page.keyboard.press("Control+Enter");
    await page.getByRole("button", { name: "Stacked" }).click();
    await page.getByRole("tab", { name: "JSON" }).click();
    await page.getByLabel("Refresh").selectOption("1m");
    await page.waitForURL(/show=json/);
    const other = await newPage(browser);
    await other.page.goto(page.url());
    await other.page.getByRole("tab", { name: "JSON", selected: true }).waitFor();
    await other.page.locator(".cm-content", { hasText: "up_to_now" }).waitFor();
    assert.equal(await other.page.getByLabel("Refresh").inputValue(), "1m");
    await other.page.getByRole("tab", { name: "Graph" }).click();
    assert.equal(await other.page.getByRole("button", { name: "Stacked" }).getAttribute("aria-pressed"), "true");
  },

  async "an error stands under what is wrong"() {
    const check = async (language, text, word, message) => {
      const { page } = await visit("query", [["q", text], ["lang", language]]);
      const error = page.getByRole("alert");
      await error.waitFor();
      assert.match(await error.innerText(), message);
      await page.locator(".cm-lintRange-error").waitFor();
      assert.equal(await page.locator(".cm-lintRange-error").innerText(), word);
      const [line, carets] = (await error.locator("pre").innerText()).split("\n");
      assert.equal(line.slice(carets.indexOf("^"), carets.lastIndexOf("^") + 1), word);
    };
    await check("promql", 'sum({a="é"}) + nope(up)', "nope", /unknown function/);
    await check("sql", "SELECT *\nFORM load", "FORM", /FORM/);
    await check("sql", "SELECT nope FROM load", "nope", /No field named nope/);
    await check("influxql", "SELECT field_1 FRM load", "FRM", /expected FROM/);
  },

  async "an error is seen while typing"() {
    const { page } = await visit("query", []);
    await type(page, "sum(rate(load_field_1))");
    await page.locator(".cm-lintRange-error").waitFor();
  },

  async "SQL and InfluxQL answer in tables and graphs"() {
    const session = await visit("query", [
      ["q", "SELECT date_bin($step, time) AS t, host, avg(field_1) AS mean FROM load WHERE host IN ('h1','h2') AND time BETWEEN $from AND $to GROUP BY 1, 2 ORDER BY 1"],
      ["lang", "sql"],
      ["from", process.env.FROM],
      ["to", process.env.TO],
    ]);
    const { page } = session;
    await painted(page, undefined);
    assert.equal(await page.locator(".legend tbody tr").count(), 2);
    await page.goto(address(open, "query", [["q", "SELECT 9007199254740993 AS big, 0.1234567890123456 AS small, NULL AS nothing"], ["lang", "sql"], ["show", "table"]]));
    const cells = page.locator(".rows td");
    await cells.filter({ hasText: "9007199254740993" }).waitFor();
    assert.deepEqual(await cells.allInnerTexts(), ["9007199254740993", "0.1234567890123456", "null"]);
    await page.goto(address(open, "query", [["q", "SELECT field_1 FROM load WHERE host = 'h1' LIMIT 300"], ["lang", "influxql"], ["show", "table"]]));
    await page.getByText("1 to 200 of 300").waitFor();
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("201 to 300 of 300").waitFor();
    await checkQuiet(session);
  },

  async "what clients wrote is text"() {
    const session = await visit("query", [["q", "evil"]]);
    const { page } = session;
    await page.locator(".legend", { hasText: "<script>window.hacked = 1</script>" }).waitFor();
    for (const [view, fields] of [
      ["query", [["q", "evil"], ["show", "table"]]],
      ["query", [["q", "SELECT * FROM evil"], ["lang", "sql"], ["show", "table"]]],
      ["explore", [["name", "evil"]]],
    ]) {
      await page.goto(address(open, view, fields));
      await page.locator("main", { hasText: "<script>" }).waitFor();
    }
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    await checkQuiet(session);
  },

  async "native histograms are a heatmap, with exemplars"() {
    const session = await visit("query", [["q", "rate(request_latency_seconds[1m])"], ["with", "exemplars"], ["from", "now-10m"]]);
    const { page } = session;
    await painted(page, undefined);
    await page.getByLabel(/^Heatmap/).waitFor();
    const area = await page.locator(".plot .u-over").boundingBox();
    await page.waitForTimeout(500);
    let isSeen = false;
    for (let x = 4; x < area.width && !isSeen; x += 3) {
      for (let y = 8; y < area.height && !isSeen; y += 12) {
        await page.mouse.move(area.x + x, area.y + y);
        isSeen = await page.evaluate(() => document.querySelector(".tooltip")?.textContent.includes("trace_id") ?? false);
      }
    }
    assert.ok(isSeen, "no exemplar is under the pointer");
    await checkQuiet(session);
  },

  async "a token is asked for, kept in the tab, and never in the address"() {
    const session = await newPage(browser);
    const { page } = session;
    await page.goto(address(guarded, "query", [["q", "load_field_1"]]));
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    await dialog.getByLabel("Token").fill("wrong");
    await page.keyboard.press("Enter");
    await dialog.getByRole("alert").waitFor();
    await dialog.getByLabel("Token").fill(token);
    await page.keyboard.press("Enter");
    await dialog.waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Token set" }).waitFor();
    await painted(page, undefined);
    assert.ok(!page.url().includes(token));
    assert.equal(await page.evaluate((secret) => JSON.stringify(localStorage).includes(secret), token), false);
    await page.reload();
    await painted(page, undefined);
    const other = await newPage(browser);
    await other.page.goto(page.url());
    await other.page.getByRole("dialog").waitFor();
    // Tokens are made and revoked.
    await page.goto(address(guarded, "status", [["part", "access"]]));
    await page.getByLabel("Name").fill("made here");
    await page.getByRole("button", { name: "Create" }).click();
    assert.match(await page.locator(".secret").innerText(), /^tide_/);
    await page.getByRole("button", { name: "Revoke made here" }).click();
    await page.getByRole("button", { name: "Really revoke" }).click();
    await page.getByText("Really revoke").waitFor({ state: "detached" });
    // The list is asked for again.
    await page.locator("td", { hasText: "made here" }).waitFor({ state: "detached" });
    await checkQuiet(session);
  },

  async "a query that runs is listed and stopped"() {
    const slow = await visit("query", [["q", process.env.SLOW_SQL], ["lang", "sql"], ["show", "table"]]);
    const { page } = await visit("status", [["part", "queries"]]);
    await page.locator(".running code", { hasText: "generate_series" }).waitFor();
    await page.locator(".running td", { hasText: /^(adhoc|heavy)$/ }).waitFor();
    await page.getByRole("button", { name: /^Stop query/ }).click();
    const error = slow.page.getByRole("alert");
    await error.waitFor();
    assert.match(await error.innerText(), /stopped by an administrator/);
    await page.locator(".running").waitFor({ state: "detached" });
  },

  async "what queries cost is shown, and as text"() {
    const evil = "<img src=x onerror='window.hacked=1'>";
    const sql = (statement) => fetch(`${open}/api/v3/query_sql?${new URLSearchParams({ db: "default", q: statement })}`);
    const statements = [1, 2, 3].map((least) => `SELECT count(*) FROM load WHERE field_1 > ${least}`);
    for (const statement of [...statements, `SELECT "${evil}" FROM load`]) await (await sql(statement)).text();
    const session = await visit("status", [["part", "queries"]]);
    const { page } = session;
    const card = page.getByRole("region", { name: "What queries cost", exact: true });
    await card.getByText(/^Since .*: [\d,]+ queries, .*of them without a whole answer, .* requests?, /).waitFor();
    const rows = async () => {
      const heads = (await card.locator("th").allInnerTexts()).map((head) => head.replace(" ↓", ""));
      const cells = await card.locator("tbody tr").evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.innerText)));
      return cells.map((row) => Object.fromEntries(row.map((cell, i) => [heads[i], cell])));
    };
    const row = async (text) => (await rows()).find(({ Query }) => Query === text);
    const same = await row("SELECT count(*) FROM load WHERE field_1 > ?");
    assert.deepEqual([same.Queries, same.Failed, same.Language, same.Database], ["3", "0", "sql", "default"]);
    await card.getByRole("button", { name: "Requests" }).click();
    assert.equal(await card.locator("th[aria-sort=descending]").innerText(), "Requests ↓");
    const requests = (await rows()).map(({ Requests }) => Number(Requests.replaceAll(",", "")));
    assert.ok(requests.length > 1 && requests[0] > 0, `${requests}`);
    assert.deepEqual(requests, [...requests].sort((a, b) => b - a));
    await card.getByRole("button", { name: "Each query" }).click();
    assert.match((await row(`SELECT "${evil}" FROM load`)).Outcome, /^failed: bad request$/);
    assert.equal((await row(statements[1])).Outcome, "answered");
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    await checkQuiet(session);
  },

  async "what metrics take is shown"() {
    const session = await visit("explore", [["part", "cost"]]);
    const { page } = session;
    const { data } = await (await fetch(`${open}/api/v1/status/tsdb?limit=20`)).json();
    const bytes = page.getByRole("region", { name: "Metrics by bytes on the store" });
    const [first] = data.storedBytesByMetricName;
    assert.ok(first.value > 1000, JSON.stringify(first));
    const row = bytes.locator("tbody tr").first();
    await row.getByText(first.name, { exact: true }).waitFor();
    const cells = await row.locator("td").allInnerTexts();
    assert.equal(cells[0], first.name);
    assert.match(`${cells[1]} ${cells[2]}`, /^[\d.]+ [KM]iB (\$|< \$)/);
    const samples = page.getByRole("region", { name: "Metrics by samples" });
    assert.match(await samples.locator("tr", { hasText: "load_field_1" }).first().innerText(), /100,000/);
    await page.getByRole("combobox", { name: "Series of the last" }).selectOption("30d");
    await page.waitForURL(/last=30d/);
    await samples.locator("tr", { hasText: "churn" }).waitFor();
    await checkQuiet(session);
  },

  async "processes of a cluster are shown alive and dead"() {
    const session = await newPage(browser);
    const { page } = session;
    await page.goto(address(process.env.CLUSTER_URL, "status", [["part", "cluster"]]));
    const state = (node) => page.locator(".nodes tr", { hasText: node }).locator(".dot");
    await page.getByText("1 takes writes, 2 answer queries, none merges.").waitFor();
    assert.deepEqual(await state("second").evaluate(({ textContent, className }) => [textContent, className]), ["alive", "dot good"]);
    assert.match(await page.locator(".nodes tr", { hasText: "this one" }).innerText(), /^first/);
    process.kill(Number(process.env.KILLED_PID), "SIGKILL");
    await page.getByText("1 takes writes, 1 answers queries, none merges.").waitFor();
    assert.deepEqual(await state("second").evaluate(({ textContent, className }) => [textContent, className]), ["dead", "dot bad"]);
    await checkQuiet(session);
  },

  async "what is large has its price"() {
    const session = await visit("explore", [["part", "cost"]]);
    const { page } = session;
    const { data } = await (await fetch(`${open}/api/v1/status/segments`)).json();
    const { dataBytes, indexBytes } = data.tables.find(({ table }) => table === "load");
    const price = page.getByLabel("A GiB for a month");
    assert.equal(await price.inputValue(), "0.023");
    await price.fill("1000000");
    await page.keyboard.press("Tab");
    const cells = page.getByRole("region", { name: "Tables by bytes on the store" }).locator("tr", { hasText: /^load/ }).locator("td");
    const dollars = ((dataBytes + indexBytes) / 2 ** 30) * 1e6;
    assert.ok(dollars > 1, `${dollars}`);
    assert.equal(await cells.nth(2).innerText(), `$${dollars.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`);
    await page.reload();
    assert.equal(await price.inputValue(), "1000000");
    // Two rounds of the server's own figures are needed.
    const log = page.locator(".requests tr", { hasText: /^wal/ });
    for (let i = 0; i < 10 && (await log.count()) === 0; i += 1) {
      await page.waitForTimeout(1000);
      await page.reload();
      await page.getByText("Queries asked the store").or(page.getByText("has stored nothing")).waitFor();
    }
    const [, gets, puts, , , sum] = await log.locator("td").allInnerTexts();
    assert.ok(Number(puts) > 0, `${puts}`);
    const expected = (Number(puts) * 5 + Number(gets) * 0.4) / 1e6;
    assert.ok(Math.abs(Number(sum.replace("$", "")) / expected - 1) < 0.06, `${sum} is not ${expected}`);
    await page.goto(address(open, "explore", [["part", "tables"], ["name", "load"]]));
    await page.getByText(/^100,000 rows in \d+ segments?, [\d.]+ [KM]iB, \$[\d,.]+ a month, kept for ever$/).waitFor();
    await checkQuiet(session);
  },

  async "series that come and go are counted by day"() {
    const session = await visit("explore", [["part", "churn"]]);
    const { page } = session;
    const added = async (day, title, name) => {
      await page.getByRole("button", { name: day }).click();
      const row = page.getByRole("region", { name: `${title}, ${day}` }).locator("tr", { hasText: new RegExp(`^${name}\\d`) });
      return row.locator("td").nth(1).innerText();
    };
    const { DAY, DAY_BEFORE } = process.env;
    assert.equal(await added(DAY, "Metrics by new series", "churn"), "2");
    assert.equal(await added(DAY, "Labels by new values", "pod"), "2");
    assert.equal(await added(DAY_BEFORE, "Metrics by new series", "churn"), "2");
    assert.match(page.url(), new RegExp(`day=${DAY_BEFORE}`));
    // The day before has these two alone, and one of them is gone on the day.
    const counts = async (day) => (await page.locator(".days tr", { hasText: day }).locator("td.number").allInnerTexts()).join(" ");
    assert.equal(await counts(DAY_BEFORE), "2 2 0");
    assert.match(await counts(DAY), / 1$/);
    await checkQuiet(session);
  },

  async "reading a metric says what it took"() {
    const { page } = await visit("explore", [["name", "load_field_1"]]);
    await page.getByRole("button", { name: /^Measure/ }).click();
    await page.getByText(/^100,000 samples of 100 series: .* of the store in \d+ requests?, \$.*, and \d+ parts from caches$/).waitFor();
  },

  async "points are seen as they arrive"() {
    const session = await visit("live", [["match", 'arriving{name="a"}']]);
    const { page } = session;
    await page.getByText("watching").waitFor();
    // The watch begins when the server answers.
    await page.waitForTimeout(500);
    for (const name of ["a", "b"]) {
      const answer = await fetch(`${open}/api/v2/write?bucket=default`, { method: "POST", body: `arriving,name=${name} value=42.5` });
      assert.equal(answer.status, 204);
    }
    await page.locator(".arriving td.number", { hasText: "42.5" }).waitFor();
    await page.waitForTimeout(500);
    assert.equal(await page.locator(".arriving tbody tr").count(), 1);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText("stopped").waitFor();
    await checkQuiet(session);
  },

  async "a thousand series are drawn within a second"() {
    const { page } = await visit("query", [["from", process.env.FROM], ["to", process.env.TO], ["step", "10s"]]);
    await page.locator(".cm-content").waitFor();
    await page.waitForTimeout(500);
    await type(page, '{__name__=~"load_field_.*"}');
    await page.keyboard.press("Control+Enter");
    await painted(page, undefined);
    await page.getByText("1,000 series").waitFor();
    const summary = await page.locator(".summary").innerText();
    figures.thousand_series = summary;
    // From the answer of the server on: it is a debug build here.
    figures.thousand_series_draw_ms = await page.evaluate(() => {
      const { painted } = document.querySelector("[data-painted]").dataset;
      return Math.round(Number(painted) - performance.getEntriesByName("answered").at(-1).startTime);
    });
    assert.ok(figures.thousand_series_draw_ms < 1000, `${figures.thousand_series_draw_ms}`);
  },

  async "a million points freeze nothing"() {
    // The quietest of three: others share the machine.
    for (let turn = 0; turn < 3 && !(figures.longest_frame_ms < 200); turn += 1) {
      const session = await visit("query", [["from", process.env.FROM], ["to", process.env.TO], ["step", "1s"]]);
      const { page } = session;
      await type(page, '{__name__=~"load_field_.*"}');
      await page.waitForTimeout(1000);
      await page.evaluate(() => (window.frameTimes.length = 0));
      figures.longest_task_ms = await longestTask(browser, page, async () => {
        await page.keyboard.press("Control+Enter");
        await painted(page, undefined);
        await page.waitForTimeout(500);
      });
      figures.million_points = await page.locator(".summary").innerText();
      assert.match(figures.million_points, /1,000 series · 1,000,000 points/);
      figures.longest_frame_ms = Math.round(Math.max(...(await page.evaluate(() => window.frameTimes))));
      await checkQuiet(session);
    }
    assert.ok(figures.longest_task_ms < 200, `${figures.longest_task_ms}`);
    assert.ok(figures.longest_frame_ms < 200, `${figures.longest_frame_ms}`);
  },

  async "the keyboard is enough"() {
    const { page } = await visit("query", [["q", "load_field_1"]]);
    await page.locator(".cm-content").waitFor();
    await page.keyboard.press("2");
    await page.waitForURL(/#\/explore/);
    await page.keyboard.press("1");
    await page.waitForURL(/#\/query/);
    await page.locator(".cm-content").waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("load_field_2");
    await page.keyboard.press("Control+Enter");
    await page.waitForURL(/q=load_field_2/);
    // Tab leaves the editor.
    await page.keyboard.press("Escape");
    await page.keyboard.press("Tab");
    assert.match(await page.evaluate(() => document.activeElement.textContent), /^(Run|Stop)$/);
  },

  async "every view is accessible, wide and narrow, dark and light"() {
    const views = [
      ["query", []],
      ["query", [["q", "load_field_1"], ["q", "up_to_now + ("], ["q", "SELECT * FROM load LIMIT 5"], ["lang", "sql"], ["show", "table"]]],
      ["query", [["q", "sum(load_field_1)"], ["show", "explain"]]],
      ["explore", [["name", "load_field_1"]]],
      ["explore", [["part", "tables"], ["name", "load"]]],
      ["explore", [["part", "cost"]]],
      ["explore", [["part", "churn"]]],
      ["status", []],
      ["status", [["part", "cluster"]]],
      ["status", [["part", "storage"]]],
      ["status", [["part", "queries"]]],
      ["status", [["part", "access"]]],
      ["status", [["part", "settings"]]],
      ["live", []],
    ];
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [1360, 390]) {
        const session = await newPage(browser, { colorScheme, viewport: { width, height: 800 } });
        for (const [view, fields] of views) {
          await session.page.goto("about:blank");
          await session.page.goto(address(open, view, fields));
          await session.page.waitForTimeout(1200);
          await accessible(session.page, `${view} ${new URLSearchParams(fields)} ${colorScheme} ${width}`);
          const overflow = await session.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          assert.ok(overflow <= 0, `${view} ${new URLSearchParams(fields)} ${width} is ${overflow} px too wide`);
        }
        await checkQuiet(session);
      }
    }
  },
};

let failures = 0;
const only = process.argv[2];
for (const [name, step] of Object.entries(steps)) {
  if (only && !new RegExp(only).test(name)) continue;
  try {
    await step();
    console.log(`ok ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`FAILED ${name}: ${error.stack ?? error}`);
  }
  for (const context of browser.contexts()) await context.close();
}
await browser.close();
console.log(JSON.stringify(figures));
process.exitCode = failures > 0 ? 1 : 0;
