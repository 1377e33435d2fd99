// The worker of a panel: it asks the server, reads and keeps the answer, and gives the page what it shows.
import { ServerError } from "../server/http";
import { ask } from "./ask";
import { parsePrometheus, type Parsed } from "./prometheus";
import { buffers, pack } from "./pack";
import type { Asked, Job, PackedGraph, Said, Shape, Sort } from "./protocol";
import { shapeGraph } from "./shape";
import { parseInfluxql, parseSql } from "./tables";

interface Kept {
  job: Job;
  text: string;
  parsed: Parsed;
}

/** A worker's own globals; the page's library of types does not have them. */
const scope = self as unknown as {
  onmessage: ((event: MessageEvent<Asked>) => void) | null;
  postMessage(said: Said, transfer: Transferable[]): void;
};

let kept: Kept | undefined;
let running: AbortController | undefined;

scope.onmessage = ({ data }) => {
  answer(data).then(
    (said) => said && scope.postMessage(said, "graph" in said ? buffers(said.graph) : []),
    (error: unknown) => scope.postMessage(failed(data.id, error), []),
  );
};

async function answer(asked: Asked): Promise<Said | undefined> {
  switch (asked.kind) {
    case "cancel":
      running?.abort();
      return undefined;
    case "run":
      return run(asked.id, asked.job, asked.shape);
    case "shape":
      return kept && { id: asked.id, kind: "graph", graph: graphOf(kept, asked.shape) };
    case "rows":
      return { id: asked.id, kind: "rows", rows: rowsOf(asked.first, asked.count, asked.sort) };
    case "text":
      return { id: asked.id, kind: "text", text: shownText(asked.most), total: kept?.text.length ?? 0 };
  }
}

async function run(id: number, job: Job, shape: Shape): Promise<Said> {
  running?.abort();
  const control = new AbortController();
  running = control;
  const begun = performance.now();
  const text = await ask(job, control.signal);
  const received = performance.now();
  const parsed = parse(text, job);
  kept = { job, text, parsed };
  const graph = graphOf(kept, shape);
  return {
    id,
    kind: "answer",
    graph,
    answer: {
      columns: parsed.columns,
      rows: parsed.rows.length,
      series: parsed.series.length,
      points: parsed.points,
      bytes: text.length,
      requestMs: received - begun,
      parseMs: performance.now() - received,
      remarks: parsed.remarks,
      type: parsed.type,
    },
  };
}

function parse(text: string, job: Job): Parsed {
  switch (job.language) {
    case "promql":
      return parsePrometheus(text, job.step);
    case "sql":
      return parseSql(text);
    case "influxql":
      return parseInfluxql(text);
  }
}

function graphOf({ job, parsed }: Kept, shape: Shape): PackedGraph {
  return pack(shapeGraph(parsed.series, parsed.histograms, job, shape));
}

function rowsOf(first: number, count: number, sort: Sort | undefined) {
  const rows = kept?.parsed.rows ?? [];
  if (sort) {
    const { column, descending } = sort;
    const sign = descending ? -1 : 1;
    rows.sort((a, b) => {
      const [x, y] = [a[column] ?? null, b[column] ?? null];
      if (x === y) return 0;
      // Nothing comes last, whatever the order.
      if (x === null || Number.isNaN(x)) return 1;
      if (y === null || Number.isNaN(y)) return -1;
      return x < y ? -sign : sign;
    });
  }
  return rows.slice(first, first + count);
}

function shownText(most: number): string {
  const text = kept?.text ?? "";
  if (text.length > most) return text.slice(0, most);
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function failed(id: number, error: unknown): Said {
  if (error instanceof DOMException && error.name === "AbortError") return { id, kind: "cancelled" };
  const message = error instanceof Error ? error.message : String(error);
  const of = error instanceof ServerError ? error : undefined;
  return { id, kind: "failed", message, status: of?.status ?? 0, retryAfter: of?.retryAfter ?? "" };
}
