// Chooses a range of time: up to now, or between two times.
import { useEffect, useRef, useState } from "preact/hooks";
import { LeftIcon, MinusIcon, RightIcon } from "../icons";
import { parseDuration } from "./duration";
import { absolute, endMs, isRelative, RECENT, scaled, shifted, spanOf, type Range } from "./range";
import { formatTime, localZone, parseTime, type Zone, zones } from "./zone";

interface Props {
  range: Range;
  zone: Zone;
  onRange(range: Range): void;
  onZone(zone: Zone): void;
}

export function TimePicker({ range, zone, onRange, onZone }: Props) {
  const [isOpen, setIsOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!isOpen) return;
    const close = (event: Event) => {
      if (event instanceof KeyboardEvent ? event.key === "Escape" : !root.current?.contains(event.target as Node))
        setIsOpen(false);
      if (event instanceof KeyboardEvent && event.key === "Escape") button.current?.focus();
    };
    addEventListener("pointerdown", close);
    addEventListener("keydown", close);
    return () => {
      removeEventListener("pointerdown", close);
      removeEventListener("keydown", close);
    };
  }, [isOpen]);
  const choose = (next: Range) => {
    onRange(next);
    setIsOpen(false);
    button.current?.focus();
  };
  return (
    <div class="picker" ref={root}>
      <div class="group">
        <button
          aria-label="Earlier"
          title="Earlier by half the range"
          onClick={() => onRange(shifted(range, -0.5, Date.now()))}
        >
          <LeftIcon />
        </button>
        <button
          ref={button}
          class="picker-range"
          aria-haspopup="dialog"
          aria-expanded={isOpen}
          onClick={() => setIsOpen(!isOpen)}
        >
          {rangeText(range, zone)}
        </button>
        <button
          aria-label="Later"
          title="Later by half the range"
          onClick={() => onRange(shifted(range, 0.5, Date.now()))}
        >
          <RightIcon />
        </button>
        <button aria-label="Zoom out" title="Twice the range" onClick={() => onRange(scaled(range, 2, Date.now()))}>
          <MinusIcon />
        </button>
      </div>
      {isOpen && (
        <div class="popover" role="dialog" aria-label="Range of time">
          <div class="recent" role="group" aria-label="Up to now">
            {RECENT.map((length) => (
              <button
                key={length}
                class={range.from === `now-${length}` && range.to === "now" ? "is-on" : ""}
                onClick={() => choose({ from: `now-${length}`, to: "now" })}
              >
                {length}
              </button>
            ))}
          </div>
          <Between range={range} zone={zone} onRange={choose} />
          <label class="field">
            Time zone
            <select value={zone} onChange={(event) => onZone(event.currentTarget.value)}>
              <option value="local">Browser ({localZone()})</option>
              <option value="UTC">UTC</option>
              {zones().map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        </div>
      )}
    </div>
  );
}

function rangeText(range: Range, zone: Zone): string {
  if (isRelative(range)) return `Last ${range.from.slice(4)}`;
  const span = spanOf(range, Date.now());
  if (!span) return "No range";
  const [from, to] = [
    formatTime(Math.round(span.from / 1000) * 1000, zone),
    formatTime(Math.round(span.to / 1000) * 1000, zone),
  ];
  return from.slice(0, 10) === to.slice(0, 10) ? `${from} – ${to.slice(11)}` : `${from} – ${to}`;
}

function Between({ range, zone, onRange }: { range: Range; zone: Zone; onRange(range: Range): void }) {
  const show = (end: string) => (end.startsWith("now") ? end : formatTime(endMs(end, Date.now()) ?? 0, zone));
  const [from, setFrom] = useState(show(range.from));
  const [to, setTo] = useState(show(range.to));
  const [error, setError] = useState("");
  const apply = (event: Event) => {
    event.preventDefault();
    const [start, end] = [readEnd(from, zone), readEnd(to, zone)];
    if (!start || !end) return setError("A time is 2026-11-30 05:55, now, now-1h, or 1h for the last hour.");
    const next = { from: start, to: end };
    if (!spanOf(next, Date.now())) return setError("The range ends before it begins.");
    const isFixed = !start.startsWith("now") && !end.startsWith("now");
    const span = spanOf(next, Date.now());
    onRange(isFixed && span ? absolute(span) : next);
  };
  return (
    <form class="between" onSubmit={apply}>
      <label class="field">
        From
        <input value={from} onInput={(event) => setFrom(event.currentTarget.value)} spellcheck={false} />
      </label>
      <label class="field">
        To
        <input value={to} onInput={(event) => setTo(event.currentTarget.value)} spellcheck={false} />
      </label>
      {error && (
        <p class="error-text" role="alert">
          {error}
        </p>
      )}
      <button class="primary" type="submit">
        Apply
      </button>
    </form>
  );
}

/** An end as the address has it. */
function readEnd(text: string, zone: Zone): string | undefined {
  const trimmed = text.trim();
  if (/^now(-\w+)?$/.test(trimmed)) return endMs(trimmed, 0) === undefined ? undefined : trimmed;
  if (/^(\d+(ms|[ywdhms]))+$/.test(trimmed) && parseDuration(trimmed)) return `now-${trimmed}`;
  const ms = parseTime(trimmed, zone);
  return ms === undefined ? undefined : new Date(ms).toISOString();
}
