// Reads answers of the Prometheus API.
import type { HistogramPoint } from "./heat";
import type { Cell, Column } from "./protocol";
import { seriesName, withGaps, type Series } from "./series";

type Sample = [number, string];
interface NativeHistogram {
  count: string;
  sum: string;
  buckets?: [number, string, string, string][];
}
interface Item {
  metric: Record<string, string>;
  value?: Sample;
  values?: Sample[];
  histogram?: [number, NativeHistogram];
  histograms?: [number, NativeHistogram][];
}
type Data =
  | { resultType: "vector"; result: Item[] }
  | { resultType: "matrix"; result: Item[] }
  | { resultType: "scalar"; result: Sample }
  | { resultType: "string"; result: Sample };

/** What all languages make of an answer. */
export interface Parsed {
  type: string;
  series: Series[];
  histograms: HistogramPoint[];
  columns: Column[];
  rows: Cell[][];
  points: number;
  remarks: string[];
}

/** A number as Prometheus writes it. */
export function numberOf(text: string): number {
  if (text === "+Inf") return Infinity;
  return text === "-Inf" ? -Infinity : Number(text);
}

/** Reads the body of `query` or `query_range`. */
export function parsePrometheus(text: string, step: number): Parsed {
  const body = JSON.parse(text) as { data: Data; warnings?: string[]; infos?: string[] };
  const remarks = [...(body.warnings ?? []), ...(body.infos ?? [])];
  const { data } = body;
  if (data.resultType === "scalar" || data.resultType === "string") {
    const columns: Column[] = [
      { name: "time", kind: "time" },
      { name: "value", kind: data.resultType === "scalar" ? "number" : "text" },
    ];
    const [time, value] = data.result;
    const cell = data.resultType === "scalar" ? numberOf(value) : value;
    return {
      type: data.resultType,
      series: [],
      histograms: [],
      columns,
      rows: [[time * 1000, cell]],
      points: 1,
      remarks,
    };
  }
  const parsed: Parsed = {
    type: data.resultType,
    series: [],
    histograms: [],
    columns: [],
    rows: [],
    points: 0,
    remarks,
  };
  for (const item of data.result) addItem(parsed, item, step);
  addTable(parsed, data.result, data.resultType === "matrix");
  if (parsed.series.length > 0 && parsed.histograms.length > 0) {
    parsed.remarks.push("Native histograms are drawn only where there are no numbers beside them.");
  }
  return parsed;
}

function addItem(parsed: Parsed, item: Item, step: number): void {
  const labels = Object.entries(item.metric);
  const samples = item.values ?? (item.value ? [item.value] : []);
  parsed.points += samples.length;
  if (samples.length > 0) {
    const times = new Array<number>(samples.length);
    const values = new Array<number>(samples.length);
    samples.forEach(([time, value], i) => {
      times[i] = Math.round(time * 1000);
      values[i] = numberOf(value);
    });
    const [outTimes, outValues] = withGaps(times, values, step);
    parsed.series.push({ name: seriesName(labels), labels, times: outTimes, values: outValues });
  }
  const histograms = item.histograms ?? (item.histogram ? [item.histogram] : []);
  parsed.points += histograms.length;
  for (const [time, { buckets }] of histograms) {
    const cells = (buckets ?? []).map(([, low, high, count]): [number, number, number] => [
      numberOf(low),
      numberOf(high),
      numberOf(count),
    ]);
    parsed.histograms.push({ time: Math.round(time * 1000), buckets: cells });
  }
}

/** One row a series with its last value; of a range, also how many there are. */
function addTable(parsed: Parsed, items: Item[], isRange: boolean): void {
  const names = new Set<string>();
  for (const { metric } of items) for (const name of Object.keys(metric)) names.add(name);
  const labels = [...names].sort((a, b) => Number(b === "__name__") - Number(a === "__name__") || (a < b ? -1 : 1));
  parsed.columns = [
    ...labels.map((name): Column => ({ name: name === "__name__" ? "metric" : name, kind: "text" })),
    { name: "time", kind: "time" },
    ...(isRange ? [{ name: "points", kind: "number" } as const] : []),
    { name: isRange ? "last value" : "value", kind: "number" },
  ];
  parsed.rows = items.map((item) => {
    const count = (item.values?.length ?? 0) + (item.histograms?.length ?? 0);
    const [time, value] = lastOf(item);
    return [...labels.map((name) => item.metric[name] ?? null), time, ...(isRange ? [count] : []), value];
  });
}

function lastOf(item: Item): [number, Cell] {
  const sample = item.value ?? item.values?.[item.values.length - 1];
  const histogram = item.histogram ?? item.histograms?.[item.histograms.length - 1];
  if (histogram && (!sample || histogram[0] > sample[0])) {
    return [histogram[0] * 1000, `count ${histogram[1].count}, sum ${histogram[1].sum}`];
  }
  return sample ? [sample[0] * 1000, numberOf(sample[1])] : [0, null];
}
