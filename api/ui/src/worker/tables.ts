// Reads answers that are tables, of SQL and InfluxQL, and finds the series in them.
import type { Parsed } from "./prometheus";
import type { Cell, Column } from "./protocol";
import type { Series } from "./series";

/** More lines than that are no picture. */
const MAX_LINES = 5000;
const TIME = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?$/;

/** Reads a JSON array of rows. */
export function parseSql(text: string): Parsed {
  const body = JSON.parse(exactIntegers(text)) as Record<string, unknown>[];
  const names = Object.keys(body[0] ?? {});
  const columns = names.map((name): Column => ({ name, kind: kindOf(body, name) }));
  const rows = body.map((row) => columns.map(({ name, kind }) => cell(row[name], kind)));
  return tabular(columns, rows, []);
}

interface InfluxSeries {
  name?: string;
  tags?: Record<string, string>;
  columns: string[];
  values?: unknown[][];
}
interface InfluxResult {
  series?: InfluxSeries[];
  error?: string;
  messages?: { text: string }[];
}

/** Reads the answer of `/query` with `epoch=ms`; its series become one table. */
export function parseInfluxql(text: string): Parsed {
  const { results } = JSON.parse(exactIntegers(text)) as { results: InfluxResult[] };
  const failed = results.find(({ error }) => error !== undefined);
  if (failed?.error !== undefined) throw new Error(failed.error);
  const found = results.flatMap(({ series }) => series ?? []);
  const remarks = results.flatMap(({ messages }) => (messages ?? []).map(({ text }) => text));
  const tags = unique(found.flatMap((series) => Object.keys(series.tags ?? {})));
  const fields = unique(found.flatMap((series) => series.columns));
  const isNamed = found.some((series) => series.name !== undefined);
  const columns: Column[] = [
    ...(isNamed ? [{ name: "measurement", kind: "text" } as const] : []),
    ...tags.map((name): Column => ({ name, kind: "text" })),
    ...fields.map((name): Column => ({ name, kind: name === "time" ? "time" : influxKind(found, name) })),
  ];
  const rows: Cell[][] = [];
  for (const series of found) {
    const places = fields.map((name) => series.columns.indexOf(name));
    const before: Cell[] = [...(isNamed ? [series.name ?? ""] : []), ...tags.map((tag) => series.tags?.[tag] ?? null)];
    for (const values of series.values ?? []) {
      const cells = places.map((place, i) =>
        cell(place < 0 ? null : values[place], columns[before.length + i]?.kind ?? "text"),
      );
      rows.push([...before, ...cells]);
    }
  }
  return tabular(columns, rows, remarks);
}

function unique(names: string[]): string[] {
  return [...new Set(names)];
}

/** Begins the text that stands for an integer which a double does not hold. */
const EXACT = "\u0000";

/** Marks integers that a double does not hold, and makes them text. */
function exactIntegers(text: string): string {
  if (!/\d{16}/.test(text)) return text;
  return text.replace(/"(?:[^"\\]|\\.)*"|(?<![\d.])-?\d{16,}(?![\d.eE])/g, (found) =>
    found.startsWith('"') || Number.isSafeInteger(Number(found)) ? found : `"\\u0000${found}"`,
  );
}

function kindOf(rows: Record<string, unknown>[], name: string): Column["kind"] {
  for (const row of rows) {
    const value = row[name];
    if (value === null || value === undefined) continue;
    if (isNumber(value)) return "number";
    return typeof value === "string" && TIME.test(value) ? "time" : "text";
  }
  return "text";
}

function isNumber(value: unknown): boolean {
  return typeof value === "number" || (typeof value === "string" && value.startsWith(EXACT));
}

function influxKind(found: InfluxSeries[], name: string): Column["kind"] {
  for (const series of found) {
    const place = series.columns.indexOf(name);
    const value = series.values?.find((row) => row[place] !== null && row[place] !== undefined)?.[place];
    if (value !== undefined) return isNumber(value) ? "number" : "text";
  }
  return "text";
}

function cell(value: unknown, kind: Column["kind"]): Cell {
  if (value === null || value === undefined) return null;
  if (typeof value === "string" && value.startsWith(EXACT)) return value.slice(EXACT.length);
  if (kind === "time" && typeof value === "string") return timeOf(value);
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  return JSON.stringify(value);
}

/** Times without a zone are UTC. */
function timeOf(text: string): Cell {
  const iso = text.replace(" ", "T");
  const ms = Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(iso) ? iso : `${iso}Z`);
  return Number.isNaN(ms) ? text : ms;
}

/** A table, and the series that it holds: times in the first column of times, a line for each column of numbers and each text. */
function tabular(columns: Column[], rows: Cell[][], remarks: string[]): Parsed {
  const time = columns.findIndex(({ kind }) => kind === "time");
  const numbers = columns.flatMap(({ kind }, i) => (kind === "number" ? [i] : []));
  const texts = columns.flatMap(({ kind }, i) => (kind === "text" ? [i] : []));
  const series = time < 0 || numbers.length === 0 ? [] : seriesOf(columns, rows, time, numbers, texts);
  return { type: "table", series, histograms: [], columns, rows, points: rows.length, remarks };
}

function seriesOf(columns: Column[], rows: Cell[][], time: number, numbers: number[], texts: number[]): Series[] {
  const found = new Map<string, { labels: [string, string][]; points: [number, number][] }>();
  for (const row of rows) {
    const at = row[time];
    if (typeof at !== "number") continue;
    const group = texts.map((i) => row[i] ?? "").join("\u0000");
    for (const number of numbers) {
      const value = row[number] === null ? NaN : Number(row[number]);
      if (Number.isNaN(value)) continue;
      const key = `${number}\u0000${group}`;
      let line = found.get(key);
      if (!line) {
        if (found.size >= MAX_LINES) continue;
        const labels = texts.flatMap((i): [string, string][] =>
          row[i] === null ? [] : [[columns[i]?.name ?? "", String(row[i])]],
        );
        line = { labels: [["__name__", columns[number]?.name ?? ""], ...labels], points: [] };
        found.set(key, line);
      }
      line.points.push([at, value]);
    }
  }
  return [...found.values()].map(({ labels, points }) => {
    points.sort(([a], [b]) => a - b);
    return {
      name: "",
      labels,
      times: Float64Array.from(points, ([t]) => t),
      values: Float64Array.from(points, ([, v]) => v),
    };
  });
}
