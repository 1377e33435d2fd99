// The plan of a query with what each operator did: time, rows, and what was read of the store.
import { useEffect, useState } from "preact/hooks";
import { formatValue, plain } from "../graph/units";
import { loadPlan, type Plan, type PlanNode } from "./plan";
import type { Job } from "../worker/protocol";

interface Props {
  job: Job;
}

export function Explain({ job }: Props) {
  const [plan, setPlan] = useState<Plan | undefined>(undefined);
  const [error, setError] = useState("");
  useEffect(() => {
    const control = new AbortController();
    setError("");
    loadPlan(job, control.signal).then(setPlan, (failed: Error) => {
      if (!control.signal.aborted) setError(failed.message);
    });
    return () => control.abort();
  }, [job]);
  if (error) return <p class="error-text">{error}</p>;
  if (!plan) return <p class="nothing">Runs the query to measure it…</p>;
  const total = Math.max(...plan.roots.map(({ totalMs }) => totalMs), 0.001);
  return (
    <div class="explain scroll" tabIndex={0} role="region" aria-label="Plan of the query">
      <p class="figures">
        <Figure name="time" value={formatValue(total / 1000, "seconds")} />
        <Figure name="read" value={formatValue(plan.bytes, "bytes")} />
        <Figure name="requests" value={plain(plan.requests)} />
        <Figure name="rounds" value={plain(plan.rounds)} />
        <Figure name="cache hits" value={`${plain(plan.memoryHits)} memory, ${plain(plan.diskHits)} disk`} />
        <Figure name="price" value={`$${plan.dollars === 0 ? "0" : plan.dollars.toPrecision(2)}`} />
      </p>
      <table class="plan">
        <thead>
          <tr>
            <th scope="col">Operator</th>
            <th scope="col" class="number">
              own time
            </th>
            <th scope="col" class="share" aria-label="Share of the time" />
            <th scope="col" class="number">
              rows
            </th>
            <th scope="col">read</th>
          </tr>
        </thead>
        <tbody>
          {plan.roots.map((root, i) => (
            <Rows key={i} node={root} depth={0} total={total} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <span>
      <span class="soft">{name}</span> <b>{value}</b>
    </span>
  );
}

function Rows({ node, depth, total }: { node: PlanNode; depth: number; total: number }) {
  return (
    <>
      <tr>
        <td class="operator" style={{ paddingLeft: `${10 + depth * 18}px` }}>
          {depth > 0 && <span class="branch">└ </span>}
          <b>{node.operator}</b> <code>{node.detail}</code>
        </td>
        <td class="number">{node.ownMs === undefined ? "" : formatValue(node.ownMs / 1000, "seconds")}</td>
        <td class="share">
          <i style={{ width: `${Math.round((100 * (node.ownMs ?? 0)) / total)}%` }} />
        </td>
        <td class="number">{node.rows === undefined ? "" : node.rows.toLocaleString("en")}</td>
        <td class="read">
          {node.read.map(([name, value]) => (
            <span key={name}>
              <span class="soft">{name}</span> {value}
            </span>
          ))}
        </td>
      </tr>
      {node.children.map((child, i) => (
        <Rows key={i} node={child} depth={depth + 1} total={total} />
      ))}
    </>
  );
}
