// Sends a query to the server, and reads the whole answer.
import { failure, form, headersFor, ServerError } from "../server/http";
import type { Job } from "./protocol";

/** Larger answers are refused: the browser would not hold them. */
const MAX_ANSWER_BYTES = 400 * 1024 * 1024;

/** The text of the answer. */
export async function ask(job: Job, signal: AbortSignal): Promise<string> {
  const [path, fields] = request(job);
  let answer: Response;
  try {
    const headers = headersFor(job.token, job.language === "promql" ? job.database : undefined);
    answer = await fetch(path, { method: "POST", body: form(fields), headers, signal, credentials: "omit" });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ServerError("the server does not answer", 0);
  }
  if (!answer.ok) throw await failure(answer);
  return read(answer);
}

function request(job: Job): [string, Record<string, string | number>] {
  const seconds = (ms: number) => ms / 1000;
  switch (job.language) {
    case "promql":
      return job.step > 0
        ? [
            "/api/v1/query_range",
            { query: job.text, start: seconds(job.from), end: seconds(job.to), step: seconds(job.step) },
          ]
        : ["/api/v1/query", { query: job.text, time: seconds(job.to) }];
    case "sql":
      return ["/api/v3/query_sql", { db: job.database, q: job.text, format: "json" }];
    case "influxql":
      return ["/query", { db: job.database, q: job.text, epoch: "ms" }];
  }
}

async function read(answer: Response): Promise<string> {
  const reader = answer.body?.getReader();
  if (!reader) return answer.text();
  const decoder = new TextDecoder();
  const pieces: string[] = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.length;
    if (bytes > MAX_ANSWER_BYTES) {
      await reader.cancel();
      throw new ServerError(`the answer has more than ${MAX_ANSWER_BYTES >> 20} MiB: ask for less`, 0);
    }
    pieces.push(decoder.decode(value, { stream: true }));
  }
  pieces.push(decoder.decode());
  return pieces.join("");
}
