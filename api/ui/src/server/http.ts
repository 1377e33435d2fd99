// Requests to this server, with the token of the tab.
import { refuseToken, token } from "./session";

/** An answer that is no success: what the server said, and what it means. */
export class ServerError extends Error {
  constructor(
    message: string,
    /** 0: there was no answer. */
    readonly status: number,
    readonly retryAfter = "",
  ) {
    super(message);
  }
}

/** Parameters; those without a value are left out. */
export type Params = Record<string, string | number | string[] | undefined>;

/** A form of parameters. */
export function form(params: Params): URLSearchParams {
  const fields = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined || value === "") continue;
    for (const each of Array.isArray(value) ? value : [String(value)]) fields.append(name, each);
  }
  return fields;
}

/** Headers of a request to a database. */
export function headersFor(secret: string, database?: string): Record<string, string> {
  const headers: Record<string, string> = {};
  if (secret !== "") headers["Authorization"] = `Bearer ${secret}`;
  if (database) headers["X-Scope-OrgID"] = database;
  return headers;
}

/** What an answer that is no success says. */
export async function failure(answer: Response): Promise<ServerError> {
  const text = await answer.text();
  return new ServerError(messageOf(text, answer), answer.status, answer.headers.get("Retry-After") ?? "");
}

function messageOf(text: string, answer: Response): string {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null) {
      const { error, message } = body as { error?: unknown; message?: unknown };
      if (typeof error === "string") return error;
      if (typeof message === "string") return message;
    }
  } catch {
    // Plain text.
  }
  return text.trim() || `${answer.status} ${answer.statusText}`;
}

/** Sends a request; answers that are no success are thrown. */
export async function send(path: string, init: RequestInit & { database?: string } = {}): Promise<Response> {
  const { database, ...rest } = init;
  let answer: Response;
  try {
    const headers = { ...headersFor(token(), database), ...(rest.headers as Record<string, string> | undefined) };
    answer = await fetch(path, { ...rest, headers, credentials: "omit" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ServerError("the server does not answer", 0);
  }
  if (answer.status === 401) refuseToken();
  if (!answer.ok) throw await failure(answer);
  return answer;
}

/** A JSON answer to a GET. */
export async function getJson<T>(
  path: string,
  params: Params = {},
  database?: string,
  signal?: AbortSignal,
): Promise<T> {
  const fields = form(params).toString();
  const answer = await send(fields ? `${path}?${fields}` : path, {
    ...(database ? { database } : {}),
    ...(signal ? { signal } : {}),
  });
  return (await answer.json()) as T;
}

/** `data` of an answer of the Prometheus API, asked by POST because expressions may be long. */
export async function prometheus<T>(path: string, params: Params, database: string, signal?: AbortSignal): Promise<T> {
  const answer = await send(`/api/v1/${path}`, {
    method: "POST",
    body: form(params),
    database,
    ...(signal ? { signal } : {}),
  });
  return ((await answer.json()) as { data: T }).data;
}

/** The rows of a SQL statement. */
export async function sql<T = Record<string, unknown>>(
  statement: string,
  database: string,
  signal?: AbortSignal,
): Promise<T[]> {
  const answer = await send("/api/v3/query_sql", {
    method: "POST",
    body: form({ db: database, q: statement, format: "json" }),
    ...(signal ? { signal } : {}),
  });
  return (await answer.json()) as T[];
}
