// Series of an answer before they are drawn, and the numbers that the legend shows.
import type { Stats } from "./protocol";

/** A series with all its points. */
export interface Series {
  name: string;
  labels: [string, string][];
  times: Float64Array;
  values: Float64Array;
}

/** The name of a series as PromQL writes it. */
export function seriesName(labels: [string, string][]): string {
  const metric = labels.find(([name]) => name === "__name__")?.[1] ?? "";
  const rest = labels.filter(([name]) => name !== "__name__");
  if (rest.length === 0) return metric || "{}";
  return `${metric}{${rest.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(", ")}}`;
}

/** Counts, extremes and mean; gaps do not count. */
export function statsOf(values: Float64Array): Stats {
  let count = 0;
  let sum = 0;
  let min = Infinity;
  let max = -Infinity;
  let last = NaN;
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    count += 1;
    sum += value;
    if (value < min) min = value;
    if (value > max) max = value;
    last = value;
  }
  if (count === 0) return { count, min: NaN, max: NaN, mean: NaN, last };
  return { count, min, max, mean: sum / count, last };
}

/** Puts a gap wherever two points are further apart than a step. */
export function withGaps(times: number[], values: number[], step: number): [Float64Array, Float64Array] {
  let gaps = 0;
  const isGap = (i: number) => i > 0 && (times[i] ?? 0) - (times[i - 1] ?? 0) > step * 1.5;
  if (step > 0) for (let i = 1; i < times.length; i += 1) if (isGap(i)) gaps += 1;
  if (gaps === 0) return [Float64Array.from(times), Float64Array.from(values)];
  const outTimes = new Float64Array(times.length + gaps);
  const outValues = new Float64Array(times.length + gaps);
  let to = 0;
  for (let i = 0; i < times.length; i += 1) {
    if (isGap(i)) {
      outTimes[to] = (times[i - 1] ?? 0) + step;
      outValues[to] = NaN;
      to += 1;
    }
    outTimes[to] = times[i] ?? 0;
    outValues[to] = values[i] ?? NaN;
    to += 1;
  }
  return [outTimes, outValues];
}
