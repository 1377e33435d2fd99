// The wide tables of a database, and the columns of one.
import { useMemo } from "preact/hooks";
import { fieldsOf, link } from "../address";
import { DataTable } from "../data_table";
import { formatValue } from "../graph/units";
import { sql } from "../server/http";
import { loadSegments, type Segments } from "../server/segments";
import { formatDuration } from "../time/duration";
import { useData } from "../use_data";
import { List } from "./list";
import { formatDollars, loadPrices, storageDollars, type Prices } from "./prices";

export function TableList({
  tables,
  chosen,
  onChoose,
}: {
  tables: Record<string, string[]> | undefined;
  chosen: string;
  onChoose(name: string): void;
}) {
  const items = useMemo(
    () => tables && Object.entries(tables).map(([name, columns]) => ({ name, note: `${columns.length} columns` })),
    [tables],
  );
  return <List title="Tables" items={items} chosen={chosen} onChoose={onChoose} />;
}

interface Column {
  name: string;
  type: string;
  nullable: string;
}

export function TableDetail({ table, database }: { table: string; database: string }) {
  const { data, error } = useData((signal) => columns(table, database, signal), [table, database]);
  const stored = useData((signal) => loadSegments(database, signal), [database]);
  const rows = useData((signal) => count(table, database, signal), [table, database]);
  const name = quoted(table);
  const fields = (query: string, language: string) => fieldsOf(database, { q: query, lang: language, show: "table" });
  const numbers = data?.filter(({ type }) => /^(Float|Int|UInt)/.test(type)) ?? [];
  const [number] = numbers;
  return (
    <section class="detail" aria-label={table}>
      <h1>{table}</h1>
      <p class="soft">
        {rows.data
          ? `${Number(rows.data.rows).toLocaleString("en")} rows in the last 24 hours, the latest ${rows.data.last ?? "never"}`
          : " "}
      </p>
      <p class="soft">{stored.data ? sizeOf(stored.data, table, loadPrices()) : " "}</p>
      <p class="links">
        <a class="button" href={link("query", fields(`SELECT * FROM ${name} ORDER BY time DESC LIMIT 100`, "sql"))}>
          Latest rows
        </a>
        {number && (
          <a
            class="button"
            href={link("query", fieldsOf(database, { q: number.name === "value" ? table : `${table}_${number.name}` }))}
          >
            Graph {number.name}
          </a>
        )}
      </p>
      {error && <p class="error-text">{error.message}</p>}
      {data && (
        <div class="card">
          <DataTable
            look="rows"
            rows={data}
            keyOf={({ name }) => name}
            columns={[
              { head: "Column", cell: ({ name }) => <code>{name}</code> },
              { head: "Type", cell: ({ type }) => type },
              { head: "Kind", look: "soft", cell: kindOf },
            ]}
          />
        </div>
      )}
    </section>
  );
}

/** What a table takes on the store, and how long it is kept. */
export function sizeOf({ tables }: Segments, table: string, prices: Prices): string {
  const found = tables.find((each) => each.table === table);
  if (!found || found.segments === 0) return "Nothing is in segments yet";
  const { segments, rows, dataBytes, indexBytes, retentionMs } = found;
  const bytes = dataBytes + indexBytes;
  const counted = `${rows.toLocaleString("en")} rows in ${segments.toLocaleString("en")} ${segments === 1 ? "segment" : "segments"}`;
  const kept = retentionMs === null ? "for ever" : `for ${formatDuration(retentionMs)}`;
  return `${counted}, ${formatValue(bytes, "bytes")}, ${formatDollars(storageDollars(bytes, prices))} a month, kept ${kept}`;
}

function kindOf({ name, type }: Column): string {
  if (name === "time") return "time";
  return type.startsWith("Dictionary") ? "tag" : "field";
}

function columns(table: string, database: string, signal: AbortSignal): Promise<Column[]> {
  const name = `'${table.replaceAll("'", "''")}'`;
  const statement =
    "SELECT column_name AS name, data_type AS type, is_nullable AS nullable FROM information_schema.columns " +
    `WHERE table_schema = 'public' AND table_name = ${name} ORDER BY ordinal_position`;
  return sql<Column>(statement, database, signal);
}

async function count(
  table: string,
  database: string,
  signal: AbortSignal,
): Promise<{ rows: number; last: string | null } | undefined> {
  const statement = `SELECT count(*) AS rows, max(time) AS last FROM ${quoted(table)} WHERE time > now() - INTERVAL '24 hours'`;
  return (await sql<{ rows: number; last: string | null }>(statement, database, signal))[0];
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
