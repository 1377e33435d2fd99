// Exemplars of the series of an expression: single observations with labels of their own, such as a trace.
import { prometheus } from "../server/http";
import type { Span } from "../time/range";

export interface Exemplar {
  /** Milliseconds since 1970. */
  time: number;
  value: number;
  labels: [string, string][];
  series: [string, string][];
}

interface Found {
  seriesLabels: Record<string, string>;
  exemplars: { labels: Record<string, string>; value: string; timestamp: number }[];
}

/** More than these would cover the graph. */
const MOST = 2000;

/** The exemplars of a span of time, the latest ones if there are many. */
export async function exemplars(query: string, span: Span, database: string, signal: AbortSignal): Promise<Exemplar[]> {
  const found = await prometheus<Found[]>(
    "query_exemplars",
    { query, start: span.from / 1000, end: span.to / 1000 },
    database,
    signal,
  );
  const all = found.flatMap(({ seriesLabels, exemplars: each }) =>
    each.map(({ labels, value, timestamp }): Exemplar => {
      return {
        time: timestamp * 1000,
        value: Number(value),
        labels: Object.entries(labels),
        series: Object.entries(seriesLabels),
      };
    }),
  );
  return all.sort((a, b) => a.time - b.time).slice(-MOST);
}
