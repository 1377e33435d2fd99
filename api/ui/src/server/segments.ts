// The segments of a database by level, day and table.
import { getJson } from "./http";

export interface Sums {
  segments: number;
  rows: number;
  dataBytes: number;
  indexBytes: number;
}

export interface Segments {
  levels: (Sums & { level: number })[];
  days: (Sums & { day: string; level: number })[];
  tables: (Sums & { table: string; firstDay: string | null; lastDay: string | null; retentionMs: number | null })[];
}

export async function loadSegments(database: string, signal: AbortSignal): Promise<Segments> {
  return (await getJson<{ data: Segments }>("/api/v1/status/segments", {}, database, signal)).data;
}
