// Queries that run, and what those cost that have ended.
import { getJson } from "./http";

/** What a query took, or several together. */
export interface Cost {
  running_ms: number;
  /** Null for SQL that still runs. */
  computing_ms: number | null;
  requests: number;
  bytes: number;
  memory_hits: number;
  disk_hits: number;
  rows: number;
  dollars: number;
}

export interface Query extends Cost {
  id: number;
  language: string;
  database: string;
  principal: string;
  class: string;
  begun_ms: number;
  text: string;
}

export interface EndedQuery extends Query {
  outcome: string;
  code: string | null;
}

export interface Sum extends Cost {
  queries: number;
  failed: number;
}

export interface TextSum extends Sum {
  language: string;
  database: string;
  text: string;
  ended_ms: number;
}

export interface Ended {
  since_ms: number;
  all: Sum;
  texts: TextSum[];
  queries: EndedQuery[];
}

export async function loadRunning(signal: AbortSignal): Promise<Query[]> {
  return getJson("/admin/queries", {}, undefined, signal);
}

export async function loadEnded(signal: AbortSignal): Promise<Ended> {
  return getJson("/admin/queries/ended", {}, undefined, signal);
}
