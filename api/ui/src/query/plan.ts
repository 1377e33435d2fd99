// Reads plans: the JSON of `/api/v1/explain`, and the text of SQL's EXPLAIN ANALYZE.
import { formatValue } from "../graph/units";
import { prometheus, sql } from "../server/http";
import type { Job } from "../worker/protocol";

export interface PlanNode {
  operator: string;
  detail: string;
  ownMs: number | undefined;
  totalMs: number;
  rows: number | undefined;
  /** What it read, as names and texts. */
  read: [string, string][];
  children: PlanNode[];
}

export interface Plan {
  roots: PlanNode[];
  bytes: number;
  requests: number;
  rounds: number;
  memoryHits: number;
  diskHits: number;
  dollars: number;
}

/** Runs a query for its plan. */
export async function loadPlan(job: Job, signal: AbortSignal): Promise<Plan> {
  const plan: Plan = { roots: [], bytes: 0, requests: 0, rounds: 0, memoryHits: 0, diskHits: 0, dollars: 0 };
  if (job.language === "promql") {
    const span = { start: job.from / 1000, end: job.to / 1000, step: job.step / 1000 };
    const at = job.step > 0 ? span : { time: job.to / 1000 };
    const found = await prometheus<{ plan: PromNode }>(
      "explain",
      { query: job.text, analyze: "true", ...at },
      job.database,
      signal,
    );
    plan.roots = [promNode(found.plan, plan)];
  } else {
    const rows = await sql<{ plan_type: string; plan: string }>(`EXPLAIN ANALYZE ${job.text}`, job.database, signal);
    plan.roots = sqlNodes(rows.map((row) => row.plan).join("\n"), plan);
  }
  return plan;
}

interface PromNode {
  operator: string;
  detail: string;
  measured?: { ownMs: number; totalMs: number; rows: number; values: number };
  read?: Record<string, number>;
  children?: PromNode[];
}

function promNode(node: PromNode, plan: Plan): PlanNode {
  const { measured, read = {} } = node;
  addRead(plan, read);
  return {
    operator: node.operator.replace(/^Prom|Exec$/g, ""),
    detail: node.detail,
    ownMs: measured?.ownMs,
    totalMs: measured?.totalMs ?? 0,
    rows: measured?.rows,
    read: shown(read),
    children: (node.children ?? []).map((child) => promNode(child, plan)),
  };
}

function addRead(plan: Plan, read: Record<string, number>): void {
  for (const name of ["bytes", "requests", "rounds", "memoryHits", "diskHits", "dollars"] as const)
    plan[name] += read[name] ?? 0;
}

const SHOWN: Record<string, string> = {
  series: "series",
  samples: "samples",
  rowsRead: "rows",
  segments: "segments",
  bufferChunks: "buffer chunks",
  requests: "requests",
  memoryHits: "memory hits",
  diskHits: "disk hits",
};

function shown(read: Record<string, number>): [string, string][] {
  const counts = Object.entries(SHOWN).flatMap(([key, name]): [string, string][] =>
    read[key] ? [[name, read[key].toLocaleString("en")]] : [],
  );
  const bytes: [string, string][] = read["bytes"] ? [["bytes", formatValue(read["bytes"], "bytes")]] : [];
  return [...counts, ...bytes];
}

const SQL_READ: Record<string, string> = {
  store_bytes: "bytes",
  store_requests: "requests",
  store_rounds: "rounds",
  memory_hits: "memoryHits",
  disk_hits: "diskHits",
  store_dollars: "dollars",
  rows_read: "rowsRead",
};

/** A line for each operator, deeper ones indented by two more. */
function sqlNodes(text: string, plan: Plan): PlanNode[] {
  const roots: PlanNode[] = [];
  const path: PlanNode[] = [];
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const depth = (line.length - line.trimStart().length) / 2;
    const found = /^\s*(\w+?)(?:Exec)?(?::\s*|,\s*|$)(.*?)(?:,?\s*metrics=\[(.*)\])?$/.exec(line);
    const metrics = new Map((found?.[3] ?? "").split(", ").map((pair) => pair.split("=") as [string, string]));
    const read: Record<string, number> = {};
    for (const [key, name] of Object.entries(SQL_READ))
      if (metrics.has(key)) read[name] = amount(metrics.get(key) ?? "");
    addRead(plan, read);
    const compute = metrics.get("elapsed_compute");
    const ownMs = compute === undefined ? undefined : milliseconds(compute);
    const rows = metrics.get("output_rows");
    const node: PlanNode = {
      operator: found?.[1] ?? line.trim(),
      detail: found?.[2] ?? "",
      ownMs,
      totalMs: 0,
      rows: rows === undefined ? undefined : amount(rows),
      read: shown(read),
      children: [],
    };
    path.length = Math.min(path.length, depth);
    (path[depth - 1]?.children ?? roots).push(node);
    path[depth] = node;
  }
  for (const root of roots) sumTimes(root);
  return roots;
}

function sumTimes(node: PlanNode): number {
  node.totalMs = node.children.reduce((sum, child) => sum + sumTimes(child), node.ownMs ?? 0);
  return node.totalMs;
}

const SCALES: Record<string, number> = { K: 1e3, M: 1e6, B: 1e9, G: 1e9, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 };

function amount(text: string): number {
  const [number = "0", unit = ""] = text.trim().split(" ");
  return Number(number) * (SCALES[unit] ?? 1);
}

const TIMES: Record<string, number> = { ns: 1e-6, µs: 1e-3, ms: 1, s: 1000 };

function milliseconds(text: string): number {
  const found = /^([\d.]+)(ns|µs|ms|s)$/.exec(text.trim());
  return found ? Number(found[1]) * (TIMES[found[2] ?? ""] ?? 1) : 0;
}
