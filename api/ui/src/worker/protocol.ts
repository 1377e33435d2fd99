// What the page and the worker of a panel say to each other.
import type { Language } from "../query/state";

/** A query to run. */
export interface Job {
  language: Language;
  text: string;
  database: string;
  token: string;
  /** Milliseconds since 1970. */
  from: number;
  to: number;
  /** Milliseconds; 0 asks at the end only. */
  step: number;
}

/** How a graph is drawn of the answer. */
export interface Shape {
  /** Points that a line needs at most: pixels of the graph. */
  width: number;
  stacked: boolean;
  heat: boolean;
}

export type Asked =
  | { id: number; kind: "run"; job: Job; shape: Shape }
  | { id: number; kind: "shape"; shape: Shape }
  | { id: number; kind: "rows"; first: number; count: number; sort: Sort | undefined }
  | { id: number; kind: "text"; most: number }
  | { id: number; kind: "cancel" };

export type Said =
  | { id: number; kind: "answer"; answer: Omit<Answer, "graph">; graph: PackedGraph }
  | { id: number; kind: "graph"; graph: PackedGraph }
  | { id: number; kind: "rows"; rows: Cell[][] }
  | { id: number; kind: "text"; text: string; total: number }
  | { id: number; kind: "failed"; message: string; status: number; retryAfter: string }
  | { id: number; kind: "cancelled" };

/** The order of a table. */
export interface Sort {
  column: number;
  descending: boolean;
}

export type Cell = string | number | boolean | null;

/** A column of a table. */
export interface Column {
  name: string;
  kind: "text" | "number" | "time";
}

/** What an answer is, without its rows. */
export interface Answer {
  graph: Graph;
  columns: Column[];
  rows: number;
  series: number;
  points: number;
  bytes: number;
  /** From the request to the last byte, and reading it. */
  requestMs: number;
  parseMs: number;
  remarks: string[];
  /** As PromQL names it: vector, matrix, scalar, string; of the others table. */
  type: string;
}

/** What is drawn. */
export interface Graph {
  /** Milliseconds since 1970. */
  from: number;
  to: number;
  step: number;
  lines: Line[];
  /** Bucket counts of histograms, if there are any. */
  heat: Heat | undefined;
  /** Whether lines have common times and stand on each other. */
  stacked: boolean;
}

/** A graph on its way to the page. */
export interface PackedGraph extends Omit<Graph, "lines"> {
  /** Names and labels of the lines, as JSON. */
  names: string;
  /** Points of each line. */
  lengths: Uint32Array<ArrayBuffer>;
  /** Five numbers a line: count, min, max, mean, last. */
  stats: Float64Array<ArrayBuffer>;
  times: Float64Array<ArrayBuffer>;
  values: Float64Array<ArrayBuffer>;
}

/** One series; a value that is not a number is a gap. */
export interface Line {
  name: string;
  labels: [string, string][];
  /** Milliseconds since 1970. */
  times: Float64Array;
  values: Float64Array;
  stats: Stats;
}

/** Of all values, also of those that are not drawn. */
export interface Stats {
  count: number;
  min: number;
  max: number;
  mean: number;
  last: number;
}

/** Cells of a heatmap: four numbers each: time, lower and upper bound, count. */
export interface Heat {
  cells: Float64Array<ArrayBuffer>;
  max: number;
  step: number;
}
