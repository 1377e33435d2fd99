// How large an answer is, and how long it took.
import { formatValue } from "../graph/units";
import { formatDuration } from "../time/duration";
import type { Result } from "./use_answer";

export function Summary({ result, isRunning }: { result: Result | undefined; isRunning: boolean }) {
  if (!result) return <span class="summary">{isRunning ? "…" : ""}</span>;
  const { answer, job } = result;
  const count = (value: number, name: string) => `${value.toLocaleString("en")} ${name}`;
  const facts = [
    answer.type === "table" ? count(answer.rows, "rows") : count(answer.series || answer.rows, "series"),
    ...(answer.points > answer.rows ? [count(answer.points, "points")] : []),
    ...(job.step > 0 && job.language === "promql" ? [`step ${formatDuration(job.step)}`] : []),
    formatValue(answer.requestMs / 1000, "seconds"),
    formatValue(answer.bytes, "bytes"),
  ];
  return (
    <span class="summary" role="status">
      {facts.join(" · ")}
    </span>
  );
}
