// The vertical extent of a graph.
import type { Heat, Line } from "../worker/protocol";

export interface Extent {
  min: number;
  max: number;
}

/** Lines as they stand on each other: each is the sum of the visible ones up to it. */
export function stack(lines: Line[], hidden: ReadonlySet<string>): Line[] {
  let sums: Float64Array | undefined;
  return lines.map((line) => {
    if (hidden.has(line.name)) return line;
    const below = sums;
    sums = line.values.map((value, i) => {
      const base = below?.[i] ?? NaN;
      // A gap is as high as what is below it, and a gap if nothing is.
      if (Number.isNaN(value)) return base;
      return Number.isNaN(base) ? value : base + value;
    });
    return { ...line, values: sums };
  });
}

/** The extent of the visible lines. */
export function extentOf(lines: Line[], hidden: ReadonlySet<string>, isLog: boolean): Extent {
  let [min, max] = [Infinity, -Infinity];
  for (const { name, values } of lines) {
    if (hidden.has(name)) continue;
    for (const value of values) {
      if (!Number.isFinite(value) || (isLog && value <= 0)) continue;
      if (value < min) min = value;
      if (value > max) max = value;
    }
  }
  if (min > max) return isLog ? { min: 0.1, max: 10 } : { min: 0, max: 1 };
  return isLog ? { min: min === max ? min / 10 : min, max: min === max ? max * 10 : max } : padded(min, max);
}

function padded(min: number, max: number): Extent {
  if (min === max) {
    if (min === 0) return { min: 0, max: 1 };
    return min > 0 ? { min: 0, max: min * 1.25 } : { min: min * 1.25, max: 0 };
  }
  const margin = (max - min) * 0.06;
  // From zero, if the lines come near it anyway.
  const low = min >= 0 && min - (max - min) * 0.5 <= 0 ? 0 : min - margin;
  const high = max <= 0 && max + (max - min) * 0.5 >= 0 ? 0 : max + margin;
  return { min: low, max: high };
}

/** The extent of a heatmap, and whether its buckets grow so that they need a logarithmic scale. */
export function extentOfHeat(heat: Heat): Extent & { isLog: boolean } {
  let [min, max, least, isNegative] = [Infinity, -Infinity, Infinity, false];
  for (let i = 0; i < heat.cells.length; i += 4) {
    const [low, high] = [heat.cells[i + 1] ?? 0, heat.cells[i + 2] ?? 0];
    if (low < 0) isNegative ||= high <= 0;
    if (low > 0) least = Math.min(least, low);
    if (high > 0) least = Math.min(least, high);
    min = Math.min(min, low);
    max = Math.max(max, high);
  }
  const isLog = !isNegative && least < Infinity && max / least > 20;
  if (min > max) return { min: 0, max: 1, isLog: false };
  return isLog ? { min: Math.max(min, least / 2), max, isLog } : { min, max, isLog };
}
