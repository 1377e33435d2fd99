// Series of a database by metric and label, in a time.
import { getJson } from "./http";

type Ranking = { name: string; value: number }[];

export interface Cardinality {
  headStats: { numSeries: number; numLabelPairs: number };
  seriesCountByMetricName: Ranking;
  labelValueCountByLabelName: Ranking;
  memoryInBytesByLabelName: Ranking;
  seriesCountByLabelValuePair: Ranking;
  /** Of what is stored of these series, in segments as a whole. */
  storedStats: { numSamples: number; bytes: number };
  storedBytesByMetricName: Ranking;
  sampleCountByMetricName: Ranking;
}

interface Asked {
  /** Entries of each ranking. */
  limit: number;
  /** Seconds since 1970; without them, the last three hours. */
  start?: number | undefined;
  end?: number | undefined;
}

export async function loadCardinality(database: string, asked: Asked, signal: AbortSignal): Promise<Cardinality> {
  return (await getJson<{ data: Cardinality }>("/api/v1/status/tsdb", { ...asked }, database, signal)).data;
}
