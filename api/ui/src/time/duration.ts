// Durations as PromQL writes them: 90s, 1h30m, 7d.

const UNITS: ReadonlyArray<readonly [string, number]> = [
  ["y", 365 * 86_400_000],
  ["w", 7 * 86_400_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1],
];

/** Milliseconds of a duration, or undefined if it is none. A bare number is seconds. */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1000;
  if (!/^(\d+(ms|[ywdhms]))+$/.test(trimmed)) return undefined;
  let sum = 0;
  for (const [, count, unit] of trimmed.matchAll(/(\d+)(ms|[ywdhms])/g)) {
    sum += Number(count) * (UNITS.find(([name]) => name === unit)?.[1] ?? 0);
  }
  return sum;
}

/** The shortest text of a duration. */
export function formatDuration(ms: number): string {
  let rest = Math.round(ms);
  if (rest <= 0) return "0s";
  let text = "";
  for (const [name, size] of UNITS) {
    // Weeks and years are harder to read than days.
    if (name === "y" || name === "w") continue;
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${name}`;
    rest -= count * size;
  }
  return text;
}
