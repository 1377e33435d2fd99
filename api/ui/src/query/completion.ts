// What completion needs of the server, kept for half a minute.
import type { Source } from "../editor/interface";
import { form, getJson, prometheus, send, sql, type Params } from "../server/http";

const KEPT_MS = 30_000;
const MOST_NAMES = 20_000;
const MOST_VALUES = 2000;

/** Completion in a database. */
export function completionOf(database: string): Source {
  const kept = new Map<string, { until: number; found: Promise<unknown> }>();
  /** The answer to a question, asked anew when it is old; a failure is the empty answer and is not kept. */
  const cached = <T>(key: string, ask: () => Promise<T>, empty: T): Promise<T> => {
    const known = kept.get(key);
    if (known && known.until > Date.now()) return known.found as Promise<T>;
    const found = ask().catch(() => {
      kept.delete(key);
      return empty;
    });
    kept.set(key, { until: Date.now() + KEPT_MS, found });
    return found;
  };
  const selected = (selector: string) => (selector ? { "match[]": selector } : {});
  return {
    metricNames: () => cached("names", () => labelValues("__name__", { limit: MOST_NAMES }, database), []),
    metadata: () =>
      cached(
        "metadata",
        () =>
          getJson<{ data: Record<string, { type: string; help: string }[]> }>("/api/v1/metadata", {}, database).then(
            ({ data }) => data,
          ),
        {},
      ),
    labelNames: (selector) =>
      cached(
        `labels ${selector}`,
        () => prometheus<string[]>("labels", { ...selected(selector), limit: MOST_NAMES }, database),
        [],
      ),
    labelValues: (label, selector) =>
      cached(
        `values ${label} ${selector}`,
        () => labelValues(label, { ...selected(selector), limit: MOST_VALUES }, database),
        [],
      ),
    series: (selector) =>
      cached(
        `series ${selector}`,
        () => prometheus<Record<string, string>[]>("series", { "match[]": selector, limit: MOST_VALUES }, database),
        [],
      ),
    tables: () => cached("tables", () => tables(database), {}),
    sqlFunctions: () =>
      cached(
        "functions",
        async () => {
          const rows = await sql<{ name: string }>(
            "SELECT DISTINCT routine_name AS name FROM information_schema.routines ORDER BY 1",
            database,
          );
          return rows.map(({ name }) => name);
        },
        [],
      ),
    measurements: () => cached("measurements", () => measurements(database), {}),
  };
}

async function labelValues(label: string, params: Params, database: string): Promise<string[]> {
  return (await getJson<{ data: string[] }>(`/api/v1/label/${encodeURIComponent(label)}/values`, params, database))
    .data;
}

async function tables(database: string): Promise<Record<string, Record<string, string[]>>> {
  const statement =
    "SELECT table_schema AS s, table_name AS t, column_name AS c FROM information_schema.columns " +
    `WHERE table_schema <> 'information_schema' ORDER BY 1 DESC, 2, ordinal_position LIMIT ${MOST_NAMES}`;
  const found: Record<string, Record<string, string[]>> = { public: {}, metrics: {} };
  for (const { s, t, c } of await sql<{ s: string; t: string; c: string }>(statement, database)) {
    ((found[s] ??= {})[t] ??= []).push(c);
  }
  return found;
}

interface Shown {
  results: { series?: { name: string; values: string[][] }[] }[];
}

async function measurements(database: string): Promise<Record<string, string[]>> {
  const statements = "SHOW MEASUREMENTS LIMIT 5000; SHOW FIELD KEYS; SHOW TAG KEYS";
  const answer = await send("/query", { method: "POST", body: form({ db: database, q: statements }) });
  const [names, ...keys] = ((await answer.json()) as Shown).results;
  const found: Record<string, string[]> = {};
  for (const row of names?.series?.[0]?.values ?? []) found[row[0] ?? ""] = ["time"];
  for (const { series } of keys) {
    for (const { name, values } of series ?? []) (found[name] ??= ["time"]).push(...values.map((row) => row[0] ?? ""));
  }
  return found;
}
