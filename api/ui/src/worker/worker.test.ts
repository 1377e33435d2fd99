import assert from "node:assert/strict";
import { test } from "node:test";
import { decimate } from "./decimate";
import { heatOf, heatOfClassic } from "./heat";
import { pack, unpack } from "./pack";
import { parsePrometheus } from "./prometheus";
import type { Job } from "./protocol";
import { shapeGraph } from "./shape";
import { parseInfluxql, parseSql } from "./tables";

const job: Job = { language: "promql", text: "", database: "", token: "", from: 0, to: 60_000, step: 10_000 };

test("a matrix becomes lines with gaps", () => {
  const values = [
    [0, "1"],
    [10, "NaN"],
    [40, "+Inf"],
    [50, "2"],
  ];
  const text = JSON.stringify({
    data: { resultType: "matrix", result: [{ metric: { __name__: "x", a: 'q"' }, values }] },
  });
  const parsed = parsePrometheus(text, 10_000);
  const [series] = parsed.series;
  assert.equal(series?.name, 'x{a="q\\""}');
  assert.deepEqual([...(series?.times ?? [])], [0, 10_000, 20_000, 40_000, 50_000]);
  assert.deepEqual([...(series?.values ?? [])], [1, NaN, NaN, Infinity, 2]);
  assert.deepEqual(
    parsed.columns.map(({ name }) => name),
    ["metric", "a", "time", "points", "last value"],
  );
  assert.deepEqual(parsed.rows, [["x", 'q"', 50_000, 4, 2]]);
});

test("tables become series", () => {
  const rows = [
    { t: "2026-11-30T05:00:00", host: "a", v: 1, big: 9007199254740993 },
    { t: "2026-11-30T05:00:00", host: "b", v: null, big: 2 },
    { t: "2026-11-30T04:00:00", host: "a", v: 0.1234567890123456, big: 3 },
  ];
  const text = JSON.stringify(rows).replace("9007199254740992", "9007199254740993");
  const parsed = parseSql(text);
  assert.deepEqual(
    parsed.columns.map(({ kind }) => kind),
    ["time", "text", "number", "number"],
  );
  const [line] = parsed.series.filter(({ labels }) => labels.some(([, value]) => value === "v"));
  assert.deepEqual([...(line?.values ?? [])], [0.1234567890123456, 1]);
  assert.equal(parsed.rows[0]?.[3], "9007199254740993");
  // Digits in texts stay what they are.
  assert.deepEqual(parseSql('[{"a":"1234567890123456789: 1234567890123456789"}]').rows, [
    ["1234567890123456789: 1234567890123456789"],
  ]);
  assert.deepEqual(parseSql("[]").rows, []);
});

test("series of InfluxQL become one table", () => {
  const series = [
    {
      name: "cpu",
      tags: { host: "a" },
      columns: ["time", "mean"],
      values: [
        [1, 2],
        [2, null],
      ],
    },
    { name: "cpu", tags: { host: "b" }, columns: ["time", "mean"], values: [[1, 3]] },
  ];
  const parsed = parseInfluxql(JSON.stringify({ results: [{ statement_id: 0, series }] }));
  assert.deepEqual(parsed.rows, [
    ["cpu", "a", 1, 2],
    ["cpu", "a", 2, null],
    ["cpu", "b", 1, 3],
  ]);
  assert.equal(parsed.series.length, 2);
  let message = "";
  try {
    parseInfluxql(JSON.stringify({ results: [{ error: "no" }] }));
  } catch (error) {
    message = (error as Error).message;
  }
  assert.equal(message, "no");
});

test("fewer points keep the extremes", () => {
  const times = Float64Array.from({ length: 10_000 }, (_, i) => i);
  const values = times.map((i) => (i === 5001 ? 99 : i === 7002 ? -99 : Math.sin(i)));
  const { times: kept, values: drawn } = decimate({ times, values }, 0, 10_000, 100);
  assert.ok(kept.length <= 404, String(kept.length));
  assert.equal(Math.max(...drawn), 99);
  assert.equal(Math.min(...drawn), -99);
  assert.deepEqual([kept[0], kept[kept.length - 1]], [0, 9999]);
  assert.ok(kept.every((time, i) => i === 0 || time > (kept[i - 1] ?? 0)));
});

test("many lines are packed and unpacked", () => {
  const series = [1, 2].map((n) => ({
    name: `s${n}`,
    labels: [],
    times: Float64Array.of(0, n),
    values: Float64Array.of(n, NaN),
  }));
  const graph = shapeGraph(series, [], job, { width: 100, stacked: false, heat: false });
  assert.deepEqual(unpack(pack(graph)), graph);
});

test("histograms are added up by time and bucket", () => {
  const heat = heatOf(
    [
      {
        time: 1,
        buckets: [
          [1, 2, 3],
          [2, 4, 0],
        ],
      },
      { time: 1, buckets: [[1, 2, 4]] },
      { time: 2, buckets: [[1, 2, 1]] },
    ],
    1,
  );
  assert.deepEqual([...heat.cells], [1, 1, 2, 7, 2, 1, 2, 1]);
  assert.equal(heat.max, 7);
  const bucket = (le: string, value: number) => ({
    name: le,
    labels: [["le", le]] as [string, string][],
    times: Float64Array.of(5),
    values: Float64Array.of(value),
  });
  const classic = heatOfClassic([bucket("+Inf", 10), bucket("1", 2), bucket("2", 7)], 1);
  assert.deepEqual([...(classic?.cells ?? [])], [5, 0, 1, 2, 5, 1, 2, 5, 5, 2, 4, 3]);
});
