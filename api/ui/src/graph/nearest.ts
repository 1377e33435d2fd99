// Finds the point of a line that is next to the pointer.
import type { Line } from "../worker/protocol";

/** The index of the last time that is not after `time`, or -1. */
export function before(times: Float64Array, time: number): number {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] ?? Infinity) <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The value of a line at a time, and where it is: the nearest point that is no gap, within `reach`. */
export function valueAt(
  { times, values }: Line,
  time: number,
  reach: number,
): { time: number; value: number } | undefined {
  const left = before(times, time);
  let best: { time: number; value: number } | undefined;
  for (const i of [left, left + 1]) {
    const [at, value] = [times[i], values[i]];
    if (at === undefined || value === undefined || Number.isNaN(value) || Math.abs(at - time) > reach) continue;
    if (!best || Math.abs(at - time) < Math.abs(best.time - time)) best = { time: at, value };
  }
  return best;
}
