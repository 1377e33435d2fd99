// Makes the picture of the page in the README, of a running server:
//   NODE_FOLDER=~/.cache/tidelake-tests/node CHROMIUM=/usr/bin/chromium screenshot.mjs URL 'QUERY' FILE
import { address, launch, newPage, painted } from "./session.mjs";

const [base, query, file] = process.argv.slice(2);
const browser = await launch();
const { page } = await newPage(browser, { viewport: { width: 1180, height: 650 }, colorScheme: "light" });
await page.goto(address(base, "query", [["q", query]]));
await painted(page, undefined);
await page.waitForTimeout(500);
await page.screenshot({ path: file });
await browser.close();
