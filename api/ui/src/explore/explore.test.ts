import assert from "node:assert/strict";
import { test } from "node:test";
import type { Cardinality } from "../server/cardinality";
import type { Plan } from "../query/plan";
import { loadDays, RANKS } from "./churn";
import { formatDollars, formatSmallDollars, requestDollars, STANDARD, storageDollars } from "./prices";
import { described } from "./read_cost";
import { byPurpose } from "./requests";
import { sizeOf } from "./tables";

const NOTHING_STORED = {
  storedStats: { numSamples: 0, bytes: 0 },
  storedBytesByMetricName: [],
  sampleCountByMetricName: [],
};

const DAY_MS = 86_400_000;

/** A database of series with their metric and the days that they have points on. */
function counting(series: [string, string, number[]][]): { asked: [number, number][]; count: typeof countIn } {
  const asked: [number, number][] = [];
  async function countIn(from: number, to: number): Promise<Cardinality> {
    asked.push([from, to]);
    const found = series.filter(([, , days]) => days.some((day) => day * DAY_MS <= to && (day + 1) * DAY_MS > from));
    const ranked = (names: string[]) =>
      [...new Set(names)].map((name) => ({ name, value: names.filter((other) => other === name).length }));
    const pods = new Set(found.map(([, pod]) => pod)).size;
    return {
      headStats: { numSeries: found.length, numLabelPairs: 0 },
      seriesCountByMetricName: ranked(found.map(([metric]) => metric)),
      labelValueCountByLabelName: [{ name: "pod", value: pods }],
      memoryInBytesByLabelName: [],
      seriesCountByLabelValuePair: [],
      ...NOTHING_STORED,
    };
  }
  return { asked, count: countIn };
}

test("new and gone series follow from the days alone and together", async () => {
  const { asked, count } = counting([
    ["up", "a", [18, 19, 20]],
    ["up", "b", [18]],
    ["up", "c", [19, 20]],
    ["http", "d", [20]],
    ["http", "e", [20]],
  ]);
  const days = await loadDays(20 * DAY_MS + 5000, count);
  assert.equal(days.length, 7);
  assert.deepEqual(days[0], {
    name: "1970-01-21",
    series: 4,
    added: 2,
    gone: 0,
    metrics: [{ name: "http", value: 2 }],
    labels: [{ name: "pod", value: 2 }],
    isCut: false,
  });
  assert.deepEqual([days[1]?.series, days[1]?.added, days[1]?.gone], [2, 1, 1]);
  assert.deepEqual(days[1]?.metrics, [{ name: "up", value: 1 }]);
  assert.deepEqual([days[2]?.series, days[2]?.added, days[2]?.gone], [2, 2, 0]);
  // Ends are a part of what is asked for: a day ends before midnight.
  assert.deepEqual(asked[0], [20 * DAY_MS, 21 * DAY_MS - 1]);
  assert.deepEqual(asked[1], [19 * DAY_MS, 20 * DAY_MS - 1]);
  assert.deepEqual(asked[2], [19 * DAY_MS, 21 * DAY_MS - 1]);
});

test("what a ranking leaves out is not called new", async () => {
  const many = Array.from({ length: RANKS }, (_, i) => ({ name: `m${i}`, value: 2 }));
  const none: Cardinality = {
    headStats: { numSeries: 9000, numLabelPairs: 0 },
    seriesCountByMetricName: many,
    labelValueCountByLabelName: [],
    memoryInBytesByLabelName: [],
    seriesCountByLabelValuePair: [],
    ...NOTHING_STORED,
  };
  const other = [{ name: "beyond", value: 50 }, { name: "m0", value: 3 }, ...many.slice(2)];
  const [day] = await loadDays(0, async (from, to) =>
    to - from > DAY_MS ? { ...none, seriesCountByMetricName: other } : none,
  );
  assert.equal(day?.isCut, true);
  assert.deepEqual(day?.metrics, [{ name: "m0", value: 1 }]);
});

test("small prices have their digits", () => {
  const check = (dollars: number, text: string) => assert.equal(formatSmallDollars(dollars), text);
  check(0, "$0");
  check(4e-7, "$0.0000004");
  check(1.24e-6, "$0.0000012");
  check(9.99e-5, "$0.0001");
  check(0.0123, "$0.012");
});

test("prices are of bytes and of requests by their operation", () => {
  assert.equal(storageDollars(2 * 1024 ** 3, STANDARD), 0.046);
  const price = (operation: string) => requestDollars(operation, 2e6, STANDARD, 0.4);
  assert.deepEqual(["get", "put", "list", "delete"].map(price), [0.8, 10, 10, 0]);
  assert.deepEqual([0, 0.00001, 0.000123, 0.0456, 1.5, 1234.5].map(formatDollars), [
    "$0",
    "< $0.0001",
    "$0.00012",
    "$0.046",
    "$1.50",
    "$1,234.50",
  ]);
});

test("requests are sorted by purpose, and those for nothing left out", () => {
  const row = (purpose: string, operation: string, value: string) => ({
    metric: { purpose, operation },
    value: [0, value] as [number, string],
  });
  const result = [row("wal", "put", "3"), row("data", "get", "4"), row("data", "put", "5"), row("other", "list", "0")];
  const found = byPurpose({ result });
  assert.deepEqual(
    found.map(([purpose, counts]) => [purpose, counts.get("put")]),
    [
      ["data", 5],
      ["wal", 3],
    ],
  );
});

test("the cost of reading a metric is that of the plan", () => {
  const read: [string, string][] = [
    ["series", "44"],
    ["samples", "14,398"],
  ];
  const child = { operator: "Select", detail: "", ownMs: 1, totalMs: 1, rows: 1, read, children: [] };
  const root = { ...child, operator: "Finish", read: [], children: [child] };
  const plan: Plan = {
    roots: [root],
    bytes: 94_704,
    requests: 2,
    rounds: 1,
    memoryHits: 4,
    diskHits: 1,
    dollars: 8e-7,
  };
  assert.equal(
    described(plan),
    "14,398 samples of 44 series: 92.48 KiB of the store in 2 requests, $8.0e-7, and 5 parts from caches",
  );
});

test("the size of a table is that of its data and indexes", () => {
  const sums = { segments: 3, rows: 1234, dataBytes: 3 * 1024 ** 3, indexBytes: 1024 ** 3 };
  const days = { firstDay: null, lastDay: null };
  const tables = [
    { ...sums, ...days, table: "a", retentionMs: 86_400_000 },
    { ...sums, ...days, table: "b", segments: 1, retentionMs: null },
    { ...sums, ...days, table: "c", segments: 0, retentionMs: null },
  ];
  const found = { levels: [], days: [], tables };
  assert.equal(sizeOf(found, "a", STANDARD), "1,234 rows in 3 segments, 4 GiB, $0.092 a month, kept for 1d");
  assert.equal(sizeOf(found, "b", STANDARD), "1,234 rows in 1 segment, 4 GiB, $0.092 a month, kept for ever");
  for (const name of ["c", "d"]) assert.equal(sizeOf(found, name, STANDARD), "Nothing is in segments yet");
});
