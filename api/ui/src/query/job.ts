// What is asked of the server for a panel.
import { token } from "../server/session";
import { stepOf, type Span } from "../time/range";
import type { Job } from "../worker/protocol";
import type { Panel } from "./state";

/** The query of a panel over a span; nothing if it asks nothing. `width` is in pixels. */
export function jobOf(panel: Panel, database: string, span: Span, stepText: string, width: number): Job | undefined {
  if (panel.text.trim() === "") return undefined;
  const step = stepOf(stepText, span, width);
  const common = { language: panel.language, text: withTimes(panel, span, step), database, token: token() };
  if (panel.language !== "promql") return { ...common, ...span, step };
  // A table of PromQL shows one time, the end of the range.
  if (panel.show === "table") return { ...common, ...span, step: 0 };
  // On the grid of the step, so that a refresh asks for the same times again.
  const [from, to] = [Math.floor(span.from / step) * step, Math.floor(span.to / step) * step];
  return { ...common, from, to, step };
}

/** `$from`, `$to` and `$step` of SQL and InfluxQL are the range and the step of the page. */
function withTimes({ language, text }: Panel, { from, to }: Span, step: number): string {
  if (language === "promql") return text;
  const time = (ms: number) => `'${new Date(ms).toISOString()}'`;
  const length =
    language === "sql"
      ? `INTERVAL '${Math.max(1, Math.round(step))} milliseconds'`
      : `${Math.max(1, Math.round(step))}ms`;
  return text.replace(/\$(from|to|step)\b/g, (_, name: string) =>
    name === "from" ? time(from) : name === "to" ? time(to) : length,
  );
}
