// A range of time as the address has it: "now-1h", or a time in ISO 8601.
import { formatDuration, parseDuration } from "./duration";

/** Two ends, each relative to now or absolute. */
export interface Range {
  from: string;
  to: string;
}

/** A range in milliseconds since 1970. */
export interface Span {
  from: number;
  to: number;
}

export const DEFAULT_RANGE: Range = { from: "now-1h", to: "now" };

/** Ranges to choose from: up to now. */
export const RECENT = ["5m", "15m", "30m", "1h", "3h", "6h", "12h", "1d", "2d", "7d", "30d", "90d", "365d"];

/** Milliseconds since 1970 of an end, or undefined if it is none. */
export function endMs(text: string, now: number): number | undefined {
  const relative = /^now(?:-(\w+))?$/.exec(text.trim());
  if (relative) {
    const back = relative[1] === undefined ? 0 : parseDuration(relative[1]);
    return back === undefined ? undefined : now - back;
  }
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}

/** A range that can be asked for, or undefined. */
export function spanOf(range: Range, now: number): Span | undefined {
  const from = endMs(range.from, now);
  const to = endMs(range.to, now);
  return from === undefined || to === undefined || from >= to ? undefined : { from, to };
}

/** A range of fixed ends. */
export function absolute(span: Span): Range {
  return { from: new Date(Math.round(span.from)).toISOString(), to: new Date(Math.round(span.to)).toISOString() };
}

/** Whether a range moves with the clock. */
export function isRelative(range: Range): boolean {
  return range.to === "now" && range.from.startsWith("now-");
}

/** The range moved by a part of its length, negative into the past. */
export function shifted(range: Range, by: number, now: number): Range {
  const span = spanOf(range, now);
  if (!span) return range;
  const move = (span.to - span.from) * by;
  return absolute({ from: span.from + move, to: span.to + move });
}

/** The range with another length around its middle, or up to now if it ends there. */
export function scaled(range: Range, by: number, now: number): Range {
  const span = spanOf(range, now);
  if (!span) return range;
  const length = Math.max(1000, (span.to - span.from) * by);
  if (isRelative(range)) return { from: `now-${formatDuration(Math.round(length / 1000) * 1000)}`, to: "now" };
  const middle = (span.from + span.to) / 2;
  return absolute({ from: middle - length / 2, to: middle + length / 2 });
}

const NICE_STEPS = [
  1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
].map((s) => s * 1000);
const MAX_STEPS = 11_000;

/** A step that gives about one point for each two pixels, in milliseconds. */
export function niceStep(span: Span, width: number): number {
  const wanted = (span.to - span.from) / Math.max(100, width / 2);
  const days = Math.ceil(wanted / 86_400_000) * 86_400_000;
  return NICE_STEPS.find((step) => step >= wanted) ?? days;
}

/** The step that is asked for: as the user set it, but never with more steps than the server gives. */
export function stepOf(text: string, span: Span, width: number): number {
  const set = parseDuration(text);
  if (set === undefined || set <= 0) return niceStep(span, width);
  return Math.max(set, Math.ceil((span.to - span.from) / MAX_STEPS));
}
