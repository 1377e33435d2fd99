// Paints lines into the canvas of a plot, a few milliseconds a frame, so that thousands do not freeze the page.
import type { Line } from "../worker/protocol";

/** Milliseconds that a whole frame should take: to the time of painting comes that of the browser, which may be twice as long. */
const FRAME_MS = 45;
/** Milliseconds of painting: in the first frame, and least and most in those that follow. */
const BUDGET_MS = { first: 4, least: 2, most: 24 };
/** Pieces that are little work. */
const AT_ONCE = 50;

/** Where values lie on the canvas, in its pixels. */
export interface Ground {
  context: CanvasRenderingContext2D;
  left: number;
  top: number;
  width: number;
  height: number;
  ratio: number;
  x(time: number): number;
  y(value: number): number;
}

export interface Painting {
  lines: Line[];
  /** As many colours as lines. */
  colours: string[];
  hidden: ReadonlySet<string>;
  stacked: boolean;
}

/** The time for painting in the next frame, of that in the one before and of how long that frame took. */
export function nextBudget(budget: number, frameMs: number): number {
  return Math.min(BUDGET_MS.most, Math.max(BUDGET_MS.least, budget * Math.min(1.5, FRAME_MS / frameMs)));
}

/** Does `count` pieces of work, as many a frame as there is time for; returns what stops it. */
export function inFrames(ground: Ground, count: number, work: (piece: number) => void, done: () => void): () => void {
  let next = 0;
  let frame = 0;
  let budget = BUDGET_MS.first;
  let begun: number | undefined;
  const step = (now?: number) => {
    if (now !== undefined && begun !== undefined) budget = nextBudget(budget, now - begun);
    begun = now;
    const end = performance.now() + budget;
    clip(ground, () => {
      do {
        work(next);
        next += 1;
      } while (next < count && performance.now() < end);
    });
    if (next < count) frame = requestAnimationFrame(step);
    else done();
  };
  // Much work begins with the next frame: this one has made the axes and the legend.
  if (count === 0) done();
  else if (count > AT_ONCE) frame = requestAnimationFrame(step);
  else step();
  return () => cancelAnimationFrame(frame);
}

/** Begins to paint; returns what stops it. `done` is called after the last line. */
export function paint(ground: Ground, painting: Painting, done: () => void): () => void {
  const { lines, hidden, stacked, colours } = painting;
  // What stands highest is painted first, and lower ones over it.
  const order = lines.map((_, i) => i).filter((i) => !hidden.has(lines[i]?.name ?? ""));
  if (stacked) order.reverse();
  const isThin = order.length > 60;
  const one = (piece: number) => {
    const place = order[piece] ?? 0;
    const line = lines[place];
    if (line) paintLine(ground, line, colours[place] ?? "#888", { stacked, width: isThin ? 1 : 1.5 });
  };
  return inFrames(ground, order.length, one, done);
}

/** Paints within the axes. */
export function clip({ context, left, top, width, height }: Ground, work: () => void): void {
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  work();
  context.restore();
}

/** Paints one line; a point between two gaps is a dot. */
export function paintLine(
  ground: Ground,
  { times, values }: Line,
  colour: string,
  look: { stacked: boolean; width: number },
): void {
  const { context, ratio } = ground;
  const path = new Path2D();
  const dots = new Path2D();
  const area = look.stacked ? new Path2D() : undefined;
  const floor = ground.top + ground.height;
  let begun = -1;
  const finish = (end: number) => {
    if (begun < 0) return;
    if (end === begun) {
      const [x, y] = [ground.x(times[end] ?? 0), ground.y(values[end] ?? 0)];
      dots.moveTo(x, y);
      dots.arc(x, y, 1.7 * ratio, 0, 2 * Math.PI);
    } else if (area) {
      area.lineTo(ground.x(times[end] ?? 0), floor);
      area.lineTo(ground.x(times[begun] ?? 0), floor);
      area.closePath();
    }
    begun = -1;
  };
  for (let i = 0; i < times.length; i += 1) {
    const value = values[i] ?? NaN;
    const y = Number.isNaN(value) ? NaN : ground.y(value);
    if (!Number.isFinite(y)) {
      finish(i - 1);
      continue;
    }
    const x = ground.x(times[i] ?? 0);
    if (begun < 0) {
      path.moveTo(x, y);
      area?.moveTo(x, y);
      begun = i;
    } else {
      path.lineTo(x, y);
      area?.lineTo(x, y);
    }
  }
  finish(times.length - 1);
  if (area) {
    context.globalAlpha = 0.35;
    context.fillStyle = colour;
    context.fill(area);
    context.globalAlpha = 1;
  }
  context.strokeStyle = colour;
  context.fillStyle = colour;
  context.lineWidth = look.width * ratio;
  context.lineJoin = "bevel";
  context.stroke(path);
  context.fill(dots);
}
