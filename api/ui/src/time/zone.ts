// Times as text, in the zone of the browser or another one, on a 24-hour clock.

/** "local", "UTC", or a name of the IANA database. */
export type Zone = string;

/** A time taken apart. */
export interface Parts {
  date: string;
  time: string;
  ms: string;
}

const formatters = new Map<Zone, Intl.DateTimeFormat>();

function formatter(zone: Zone): Intl.DateTimeFormat {
  const known = formatters.get(zone);
  if (known) return known;
  const options: Intl.DateTimeFormatOptions = {
    hourCycle: "h23",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    ...(zone === "local" ? {} : { timeZone: zone }),
  };
  const made = new Intl.DateTimeFormat("en-GB", options);
  formatters.set(zone, made);
  return made;
}

/** Whether the browser knows a zone. */
export function isZone(zone: Zone): boolean {
  try {
    formatter(zone);
    return true;
  } catch {
    return false;
  }
}

/** All zones of the browser. */
export function zones(): Zone[] {
  return Intl.supportedValuesOf("timeZone");
}

/** The zone that "local" means. */
export function localZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** A time in parts. */
export function parts(ms: number, zone: Zone): Parts {
  const fields: Record<string, string> = {};
  for (const { type, value } of formatter(zone).formatToParts(ms)) fields[type] = value;
  const year = (fields["year"] ?? "").padStart(4, "0");
  return {
    date: `${year}-${fields["month"]}-${fields["day"]}`,
    time: `${fields["hour"]}:${fields["minute"]}:${fields["second"]}`,
    ms: String(((Math.floor(ms) % 1000) + 1000) % 1000).padStart(3, "0"),
  };
}

/** A time with its date. */
export function formatTime(ms: number, zone: Zone): string {
  const { date, time, ms: fraction } = parts(ms, zone);
  return fraction === "000" ? `${date} ${time}` : `${date} ${time}.${fraction}`;
}

/** Reads "2026-11-30 05:55" as a time in a zone. */
export function parseTime(text: string, zone: Zone): number | undefined {
  const found = /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?)?$/.exec(text.trim());
  if (!found) return undefined;
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map((part) => Number(part ?? 0));
  const fraction = Number((found[7] ?? "0").padEnd(3, "0"));
  const wanted = Date.UTC(year ?? 0, (month ?? 1) - 1, day, hour, minute, second, fraction);
  // Twice: the offset at the first guess may be that of the other side of a change of the clock.
  let guess = wanted;
  for (let round = 0; round < 2; round += 1) guess = wanted - offset(guess, zone);
  return guess;
}

function offset(ms: number, zone: Zone): number {
  const { date, time } = parts(ms, zone);
  return Date.parse(`${date}T${time}Z`) - Math.floor(ms / 1000) * 1000;
}
