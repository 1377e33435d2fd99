// Paints the cells of a heatmap, and finds the one under the pointer.
import type { Heat } from "../worker/protocol";
import { heatColour } from "./colours";
import { inFrames, type Ground } from "./painter";

/** Cells that are painted between two looks at the clock. */
const CELLS_AT_ONCE = 500;
/** Colours that are told apart. */
const SHADES = 64;

/** Paints all cells; counts are shown by the square root of their share, so that rare ones are seen. */
export function paintHeat(ground: Ground, heat: Heat, isDark: boolean, done: () => void): () => void {
  const floor = ground.top + ground.height;
  const { cells, step, max } = heat;
  const shades = Array.from({ length: SHADES + 1 }, (_, i) => heatColour(i / SHADES, isDark));
  const one = (cell: number) => {
    const i = cell * 4;
    const [time, low, high, count] = [cells[i] ?? 0, cells[i + 1] ?? 0, cells[i + 2] ?? 0, cells[i + 3] ?? 0];
    const [left, right] = [ground.x(time - step), ground.x(time)];
    const [top, bottom] = [ground.y(high), ground.y(low)];
    const base = Number.isFinite(bottom) ? Math.min(bottom, floor) : floor;
    ground.context.fillStyle = shades[Math.round(Math.sqrt(count / max) * SHADES)] ?? "";
    ground.context.fillRect(left, top, Math.max(1, right - left + 0.5), Math.max(1, base - top + 0.5));
  };
  const count = cells.length / 4;
  const some = (piece: number) => {
    const end = Math.min(count, (piece + 1) * CELLS_AT_ONCE);
    for (let cell = piece * CELLS_AT_ONCE; cell < end; cell += 1) one(cell);
  };
  return inFrames(ground, Math.ceil(count / CELLS_AT_ONCE), some, done);
}

export interface HeatCell {
  time: number;
  low: number;
  high: number;
  count: number;
}

/** The cell at a time and a value. */
export function cellAt({ cells, step }: Heat, time: number, value: number): HeatCell | undefined {
  for (let i = 0; i < cells.length; i += 4) {
    const [end, low, high, count] = [cells[i] ?? 0, cells[i + 1] ?? 0, cells[i + 2] ?? 0, cells[i + 3] ?? 0];
    if (time <= end && time > end - step && value >= low && value <= high) return { time: end, low, high, count };
  }
  return undefined;
}
