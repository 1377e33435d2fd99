// Numbers with their unit, as short as their size allows.

export const UNITS = ["none", "bytes", "bytes/s", "seconds", "percent", "ratio", "per second"] as const;
export type Unit = (typeof UNITS)[number];

const SI = ["", "k", "M", "G", "T", "P"];
const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Four digits at most, without zeros at the end. */
export function plain(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-6 || size >= 1e15)) return value.toExponential(2).replace(/\.?0+e/, "e");
  if (size < 1) return String(Number(value.toPrecision(3)));
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  return String(Number(value.toFixed(digits)));
}

function scaled(value: number, base: number, names: string[], space: string): string {
  let [rest, power] = [value, 0];
  while (Math.abs(rest) >= base && power < names.length - 1) {
    rest /= base;
    power += 1;
  }
  return `${plain(rest)}${names[power] ? space : ""}${names[power]}`;
}

function seconds(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-6) return `${plain(value * 1e9)} ns`;
  if (size < 1e-3) return `${plain(value * 1e6)} µs`;
  if (size < 1) return `${plain(value * 1e3)} ms`;
  if (size < 120) return `${plain(value)} s`;
  if (size < 7200) return `${plain(value / 60)} min`;
  if (size < 172_800) return `${plain(value / 3600)} h`;
  return `${plain(value / 86_400)} d`;
}

/** A number in a unit. */
export function formatValue(value: number, unit: Unit): string {
  if (!Number.isFinite(value)) return plain(value);
  switch (unit) {
    case "bytes":
      return scaled(value, 1024, BINARY, " ");
    case "bytes/s":
      return `${scaled(value, 1024, BINARY, " ")}/s`;
    case "seconds":
      return seconds(value);
    case "percent":
      return `${plain(value)} %`;
    case "ratio":
      return `${plain(value * 100)} %`;
    case "per second":
      return `${scaled(value, 1000, SI, " ")}/s`;
    case "none":
      return Math.abs(value) >= 10_000 ? scaled(value, 1000, SI, " ") : plain(value);
  }
}

/** The unit that the names in an expression suggest. */
export function unitOf(expression: string): Unit {
  const isRate = /\b(rate|irate|deriv)\s*\(/.test(expression);
  const isCount = /\b(count|count_over_time|absent)\b\s*(by|without|\()/.test(expression);
  if (isCount || /\/[^/]*[a-z]/i.test(expression)) return "none";
  if (/_bytes(_total|_sum)?\b/.test(expression)) return isRate ? "bytes/s" : "bytes";
  if (/histogram_quantile\s*\(/.test(expression) && /_seconds\b|_seconds_bucket\b/.test(expression)) return "seconds";
  if (/_seconds(_total|_sum)?\b/.test(expression) && !/timestamp|_time_seconds/.test(expression))
    return isRate ? "none" : "seconds";
  if (/_ratio\b/.test(expression)) return "ratio";
  if (/_percent\b/.test(expression)) return "percent";
  return isRate && /_total\b|_count\b/.test(expression) ? "per second" : "none";
}

/** The unit to use: as chosen, or by the names. The buckets of a heatmap have that of what was observed. */
export function chosenUnit(chosen: string, expression: string, isHeat: boolean): Unit {
  if ((UNITS as readonly string[]).includes(chosen)) return chosen as Unit;
  return unitOf(
    isHeat ? expression.replace(/\b(rate|irate|increase)\s*\(/g, "(").replace(/_bucket\b/g, "") : expression,
  );
}
