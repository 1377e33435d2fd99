// What the queries cost that have ended: sums of the same text, and each by itself.
import { useState } from "preact/hooks";
import { Card } from "../card";
import { DataTable, type Column } from "../data_table";
import { formatSmallDollars } from "../explore/prices";
import { formatValue } from "../graph/units";
import { loadEnded, type Cost, type Ended, type EndedQuery, type TextSum } from "../server/queries";
import { formatTime } from "../time/zone";
import { useData } from "../use_data";

const EVERY_MS = 5000;

export function QueryCosts() {
  const { data, error } = useData(loadEnded, [], EVERY_MS);
  const [isEach, setIsEach] = useState(false);
  const choice = (title: string, each: boolean) => (
    <button class="toggle" aria-pressed={isEach === each} onClick={() => setIsEach(each)}>
      {title}
    </button>
  );
  return (
    <Card
      title="What queries cost"
      error={error}
      wide
      tools={
        <span class="card-tools" role="group" aria-label="Rows">
          {choice("Same text together", false)}
          {choice("Each query", true)}
        </span>
      }
    >
      {data && <p class="costs-sum">{summary(data)}</p>}
      {data && !isEach && data.texts.length > 0 && <Texts texts={data.texts} />}
      {data && isEach && data.queries.length > 0 && <Each queries={data.queries} />}
      <p class="soft note">
        {isEach
          ? "The latest 100 and those of the last hour that took most."
          : "Queries of SQL and InfluxQL that differ only in constants are one text; of many texts, those that ran longest."}
      </p>
    </Card>
  );
}

export function summary({ since_ms, all }: Pick<Ended, "since_ms" | "all">): string {
  const many = (count: number, one: string, more: string) =>
    `${count.toLocaleString("en")} ${count === 1 ? one : more}`;
  const failed = all.failed > 0 ? `, ${all.failed.toLocaleString("en")} of them without a whole answer` : "";
  const requests = many(all.requests, "request", "requests");
  return `Since ${formatTime(since_ms, "local").slice(0, 16)}: ${many(all.queries, "query", "queries")}${failed}, ${formatSmallDollars(all.dollars)} for ${formatValue(all.bytes, "bytes")} in ${requests}, ${formatValue(all.running_ms / 1000, "seconds")}.`;
}

function Texts({ texts }: { texts: TextSum[] }) {
  return (
    <DataTable<TextSum>
      label="Texts of queries by their costs"
      look="rows costs"
      limited
      order="Time"
      rows={texts}
      keyOf={({ language, database, text }) => `${language} ${database} ${text}`}
      columns={[
        text(),
        { head: "Queries", look: "count", cell: ({ queries }) => queries, by: ({ queries }) => queries },
        ...costs(),
        { head: "Failed", look: "count", cell: ({ failed }) => failed },
        { head: "Language", cell: ({ language }) => language },
        { head: "Database", cell: ({ database }) => database },
      ]}
    />
  );
}

function Each({ queries }: { queries: EndedQuery[] }) {
  return (
    <DataTable<EndedQuery>
      label="Ended queries by their costs"
      look="rows costs"
      limited
      order="Begun"
      rows={queries}
      keyOf={({ id }) => id}
      columns={[
        text(),
        {
          head: "Begun",
          look: "nowrap",
          cell: ({ begun_ms }) => formatTime(begun_ms, "local").slice(5, 19),
          by: ({ begun_ms }) => begun_ms,
        },
        ...costs(),
        { head: "Outcome", look: "nowrap", cell: outcomeOf },
        { head: "Language", cell: ({ language }) => language },
        { head: "Database", cell: ({ database }) => database },
        { head: "Token", cell: ({ principal }) => principal },
      ]}
    />
  );
}

function outcomeOf({ outcome, code }: EndedQuery) {
  const words = (name: string) => name.replaceAll("_", " ");
  if (outcome === "answered") return words(outcome);
  return <span class="error-text">{code === null ? words(outcome) : `${words(outcome)}: ${words(code)}`}</span>;
}

function text<T extends { text: string }>(): Column<T> {
  return { head: "Query", cell: ({ text }) => <code class="cell">{text || "–"}</code> };
}

/** The columns of what was taken. */
function costs<T extends Cost>(): Column<T>[] {
  const number = (head: string, by: (row: T) => number, format: (value: number) => string): Column<T> => ({
    head,
    look: "number",
    cell: (row) => format(by(row)),
    by,
  });
  const whole = (count: number) => count.toLocaleString("en");
  const seconds = (ms: number) => formatValue(ms / 1000, "seconds");
  return [
    number("Time", ({ running_ms }) => running_ms, seconds),
    number(
      "CPU",
      ({ computing_ms }) => computing_ms ?? -1,
      (ms) => (ms < 0 ? "–" : seconds(ms)),
    ),
    number("Dollars", ({ dollars }) => dollars, formatSmallDollars),
    number(
      "Bytes",
      ({ bytes }) => bytes,
      (bytes) => formatValue(bytes, "bytes"),
    ),
    number("Requests", ({ requests }) => requests, whole),
    number("Cache hits", ({ memory_hits, disk_hits }) => memory_hits + disk_hits, whole),
    number("Rows", ({ rows }) => rows, whole),
  ];
}
