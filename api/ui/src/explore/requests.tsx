// Requests to the store in the last 24 hours by what they were for, as the servers stored them of themselves.
import { link } from "../address";
import { Card } from "../card";
import { DataTable, type Column } from "../data_table";
import { formatValue, plain } from "../graph/units";
import { prometheus } from "../server/http";
import { useData } from "../use_data";
import { formatDollars, requestDollars, type Prices } from "./prices";

/** A purpose with its requests by operation. */
type Purpose = [string, Map<string, number>];

interface Requests {
  purposes: Purpose[];
  readBytes: number;
}

type Vector = { result: { metric: Record<string, string>; value: [number, string] }[] };

const OPERATIONS = ["get", "put", "list", "delete"];

interface Props {
  prices: Prices;
  /** Dollars; undefined until the server has said it. */
  millionReads: number | undefined;
}

export function Requests({ prices, millionReads }: Props) {
  const { data, error } = useData(loadRequests, []);
  const dollarsOf = (counts: Map<string, number>) =>
    [...counts].reduce((sum, [name, count]) => sum + requestDollars(name, count, prices, millionReads ?? 0), 0);
  const all = data?.purposes.reduce((sum, [, counts]) => sum + dollarsOf(counts), 0);
  return (
    <Card title="Requests of the last 24 hours, all databases" error={error}>
      {data?.purposes.length === 0 && <p class="soft">The server has stored nothing of itself yet.</p>}
      {data && data.purposes.length > 0 && (
        <DataTable
          label="Requests to the store by purpose"
          look="ranking requests"
          rows={data.purposes}
          keyOf={([purpose]) => purpose}
          columns={[
            { head: "Purpose", cell: ([purpose]) => purpose },
            ...OPERATIONS.map(
              (operation): Column<Purpose> => ({
                head: operation,
                look: "number",
                cell: ([, counts]) => plain(Math.round(counts.get(operation) ?? 0)),
              }),
            ),
            {
              head: "dollars",
              look: "number",
              cell: ([, counts]) => (millionReads === undefined ? "…" : formatDollars(dollarsOf(counts))),
            },
          ]}
        />
      )}
      {data && data.purposes.length > 0 && (
        <p class="soft note">
          {all !== undefined && millionReads !== undefined && `Together ${formatDollars(all)}. `}
          Queries asked the store for {formatValue(data.readBytes, "bytes")}:{" "}
          <a href={link("status", new URLSearchParams({ part: "queries" }))}>what each costs</a>.
        </p>
      )}
    </Card>
  );
}

async function loadRequests(signal: AbortSignal): Promise<Requests> {
  const ask = (query: string) => prometheus<Vector>("query", { query }, "_internal", signal);
  const [counts, bytes] = await Promise.all([
    ask("sum by (purpose, operation) (increase(tidelake_store_requests_total[1d]))"),
    ask("sum(increase(tidelake_query_read_bytes_total[1d]))"),
  ]);
  return { purposes: byPurpose(counts), readBytes: Number(bytes.result[0]?.value[1] ?? 0) };
}

/** Purposes with requests, those with most first. */
export function byPurpose({ result }: Vector): Purpose[] {
  const found = new Map<string, Map<string, number>>();
  for (const { metric, value } of result) {
    const purpose = metric["purpose"] ?? "";
    const counts = found.get(purpose) ?? new Map<string, number>();
    found.set(purpose, counts.set(metric["operation"] ?? "", Number(value[1])));
  }
  const sum = (counts: Map<string, number>) => [...counts.values()].reduce((total, count) => total + count, 0);
  return [...found].filter(([, counts]) => sum(counts) > 0).sort(([, a], [, b]) => sum(b) - sum(a));
}
