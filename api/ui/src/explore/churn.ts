// Series that come and go, by day: what days have in common follows from the series of both together.
import type { Cardinality } from "../server/cardinality";
import type { Ranking } from "./ranking";

const DAY_MS = 86_400_000;
/** Days that are compared, each with the one before. */
const DAYS = 7;
/** Entries of each ranking; the server gives 10,000 at most. */
export const RANKS = 2000;

/** A day of UTC with what was not there on the day before. */
export interface Day {
  /** As 2026-11-30. */
  name: string;
  series: number;
  /** Not there the day before. */
  added: number;
  /** There the day before only. */
  gone: number;
  /** Names with series, or values, that are new. */
  metrics: Ranking;
  labels: Ranking;
  /** Whether there are more metrics or labels than were compared. */
  isCut: boolean;
}

/** Counts the series between two times in milliseconds. */
export type Count = (from: number, to: number) => Promise<Cardinality>;

/** The latest days, today first. One request goes after the other: each may read many indexes. */
export async function loadDays(now: number, count: Count): Promise<Day[]> {
  const days: Day[] = [];
  let start = Math.floor(now / DAY_MS) * DAY_MS;
  let day = await count(start, start + DAY_MS - 1);
  for (let i = 0; i < DAYS; i += 1) {
    const before = await count(start - DAY_MS, start - 1);
    const both = await count(start - DAY_MS, start + DAY_MS - 1);
    days.push(compared(new Date(start).toISOString().slice(0, 10), before, day, both));
    day = before;
    start -= DAY_MS;
  }
  return days;
}

export function compared(name: string, before: Cardinality, day: Cardinality, both: Cardinality): Day {
  const all = both.headStats.numSeries;
  return {
    name,
    series: day.headStats.numSeries,
    added: all - before.headStats.numSeries,
    gone: all - day.headStats.numSeries,
    metrics: grown(before.seriesCountByMetricName, both.seriesCountByMetricName),
    labels: grown(before.labelValueCountByLabelName, both.labelValueCountByLabelName),
    isCut: [both.seriesCountByMetricName, both.labelValueCountByLabelName].some(({ length }) => length >= RANKS),
  };
}

/** What is more in both days than in the first. Of a ranking that was cut, what is missing is unknown and left out. */
function grown(before: Ranking, both: Ranking): Ranking {
  const counts = new Map(before.map(({ name, value }) => [name, value]));
  const missing = before.length < RANKS ? 0 : Infinity;
  return both
    .map(({ name, value }) => ({ name, value: value - (counts.get(name) ?? missing) }))
    .filter(({ value }) => value > 0)
    .sort((a, b) => b.value - a.value);
}
