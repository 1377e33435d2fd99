// Histograms as cells of a heatmap: of native ones, and of series with a label `le`.
import type { Heat } from "./protocol";
import type { Series } from "./series";

/** The buckets of a native histogram at a time: lower bound, upper bound, count. */
export interface HistogramPoint {
  time: number;
  buckets: [number, number, number][];
}

/** Adds the histograms of each time. */
export function heatOf(points: HistogramPoint[], step: number): Heat {
  const byTime = new Map<number, Map<string, [number, number, number]>>();
  for (const { time, buckets } of points) {
    let column = byTime.get(time);
    if (!column) byTime.set(time, (column = new Map()));
    for (const [low, high, count] of buckets) {
      const key = `${low} ${high}`;
      const cell = column.get(key);
      if (cell) cell[2] += count;
      else column.set(key, [low, high, count]);
    }
  }
  const cells: number[] = [];
  for (const [time, column] of byTime) {
    for (const [low, high, count] of column.values()) if (count > 0) cells.push(time, low, high, count);
  }
  return finished(cells, step);
}

/** Cumulative buckets that differ in `le` alone; undefined if the series are no such buckets. */
export function heatOfClassic(all: Series[], step: number): Heat | undefined {
  const bounds: [number, Series][] = [];
  for (const series of all) {
    const le = series.labels.find(([name]) => name === "le")?.[1];
    if (le === undefined) return undefined;
    bounds.push([le === "+Inf" ? Infinity : Number(le), series]);
  }
  bounds.sort(([a], [b]) => a - b);
  const sums = new Map<number, [number, Map<number, number>][]>();
  for (const [bound, series] of bounds) {
    for (let i = 0; i < series.times.length; i += 1) {
      const [time, value] = [series.times[i] ?? 0, series.values[i] ?? NaN];
      if (Number.isNaN(value)) continue;
      const column = sums.get(time) ?? [];
      sums.set(time, column);
      const top = column[column.length - 1];
      if (top && top[0] === bound) top[1].set(0, (top[1].get(0) ?? 0) + value);
      else column.push([bound, new Map([[0, value]])]);
    }
  }
  const cells: number[] = [];
  for (const [time, column] of sums) {
    let [low, below] = [0, 0];
    for (const [high, sum] of column) {
      const upTo = sum.get(0) ?? 0;
      const top = Number.isFinite(high) ? high : low * 2 || 1;
      if (upTo - below > 0) cells.push(time, low, top, upTo - below);
      [low, below] = [top, Math.max(below, upTo)];
    }
  }
  return bounds.length > 1 ? finished(cells, step) : undefined;
}

function finished(cells: number[], step: number): Heat {
  let max = 0;
  for (let i = 3; i < cells.length; i += 4) max = Math.max(max, cells[i] ?? 0);
  return { cells: Float64Array.from(cells), max, step };
}
