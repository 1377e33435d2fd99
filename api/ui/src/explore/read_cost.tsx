// What it takes to read a day of a metric: a query is run for its plan, which says it.
import { useState } from "preact/hooks";
import { formatValue } from "../graph/units";
import { loadPlan, type Plan, type PlanNode } from "../query/plan";
import type { Job } from "../worker/protocol";

type State = "asked" | { plan: Plan } | { failed: string } | undefined;

export function ReadCost({ selector, database }: { selector: string; database: string }) {
  const [state, setState] = useState<State>(undefined);
  const measure = async () => {
    setState("asked");
    const now = Date.now();
    const text = `count_over_time(${selector}[1d])`;
    const job: Job = { language: "promql", text, database, token: "", from: now, to: now, step: 0 };
    try {
      setState({ plan: await loadPlan(job, new AbortController().signal) });
    } catch (error) {
      setState({ failed: error instanceof Error ? error.message : String(error) });
    }
  };
  return (
    <p class="read-cost">
      <button class="small" disabled={state === "asked"} onClick={() => void measure()}>
        Measure what reading a day of it costs
      </button>{" "}
      <span role="status">
        {state === "asked" && "Reads…"}
        {typeof state === "object" && "failed" in state && <span class="error-text">{state.failed}</span>}
        {typeof state === "object" && "plan" in state && described(state.plan)}
      </span>
    </p>
  );
}

/** What a plan says that was read, and of where. */
export function described(plan: Plan): string {
  const { requests, bytes, memoryHits, diskHits, dollars } = plan;
  const read = new Map(plan.roots.flatMap(readBy));
  const found = `${read.get("samples") ?? 0} samples of ${read.get("series") ?? 0} series`;
  const asked = `${requests.toLocaleString("en")} ${requests === 1 ? "request" : "requests"}`;
  const price = dollars === 0 ? "$0" : `$${dollars.toPrecision(2)}`;
  const hits = memoryHits + diskHits;
  return `${found}: ${formatValue(bytes, "bytes")} of the store in ${asked}, ${price}, and ${hits.toLocaleString("en")} parts from caches`;
}

function readBy(node: PlanNode): [string, string][] {
  return [...node.read, ...node.children.flatMap(readBy)];
}
