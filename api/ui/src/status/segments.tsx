// The segments of the database by level, day and table, and how to flush and merge.
import { useState } from "preact/hooks";
import { Card } from "../card";
import { DataTable } from "../data_table";
import { formatValue } from "../graph/units";
import { send } from "../server/http";
import { loadSegments, type Segments as Found, type Sums } from "../server/segments";
import { formatDuration } from "../time/duration";
import { useData } from "../use_data";

const LEVELS = ["fresh", "two hours", "day"];

function levelName(level: number): string {
  return `${level} ${LEVELS[level] ?? ""}`;
}

export function Segments({ database }: { database: string }) {
  const { data, error, again } = useData<Found>((signal) => loadSegments(database, signal), [database], 10_000);
  return (
    <>
      <Card title="Levels" error={error} wide tools={<Work onDone={again} />}>
        <SumsTable head="Level" rows={(data?.levels ?? []).map((sums) => [levelName(sums.level), sums])} />
        {data && data.levels.length === 0 && (
          <p class="soft">Nothing is in segments yet: rows are in the buffer until the next flush.</p>
        )}
      </Card>
      <Card title="Days" error={error} wide>
        <SumsTable
          head="Day"
          second="Level"
          rows={(data?.days ?? []).map((sums) => [sums.day, sums, levelName(sums.level)])}
        />
      </Card>
      <Card title="Tables" error={error} wide>
        <SumsTable
          head="Table"
          second="Days and retention"
          rows={(data?.tables ?? []).map((sums) => [
            sums.table,
            sums,
            `${sums.firstDay ? (sums.firstDay === sums.lastDay ? sums.firstDay : `${sums.firstDay} to ${sums.lastDay}`) : "–"} · ${sums.retentionMs === null ? "for ever" : formatDuration(sums.retentionMs)}`,
          ])}
        />
      </Card>
    </>
  );
}

type Row = [name: string, sums: Sums, note?: string];

function SumsTable({ head, second, rows }: { head: string; second?: string; rows: Row[] }) {
  const bytes = ([, { dataBytes, indexBytes }]: Row) => dataBytes + indexBytes;
  const most = Math.max(1, ...rows.map(bytes));
  return (
    <DataTable
      label={`Segments by ${head.toLowerCase()}`}
      look="ranking"
      limited
      rows={rows}
      keyOf={(_, i) => i}
      columns={[
        { head, cell: ([name]) => name },
        second !== undefined && { head: second, look: "soft", cell: ([, , note]) => note },
        { head: "segments", look: "count", cell: ([, sums]) => sums.segments },
        { head: "rows", look: "count", cell: ([, sums]) => sums.rows },
        { head: "data", look: "number", cell: ([, sums]) => formatValue(sums.dataBytes, "bytes") },
        { head: "index", look: "number", cell: ([, sums]) => formatValue(sums.indexBytes, "bytes") },
        { head: "Share of the largest", look: "share", cell: (row) => bytes(row) / most },
      ]}
    />
  );
}

function Work({ onDone }: { onDone(): void }) {
  const [state, setState] = useState("");
  const run = async (path: string, name: string) => {
    setState(`${name}…`);
    try {
      await send(path, { method: "POST" });
      setState("");
      onDone();
    } catch (error) {
      setState(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <span class="card-tools">
      <span class="soft" role="status">
        {state}
      </span>
      <button class="small" onClick={() => void run("/admin/flush", "Flushes")}>
        Flush now
      </button>
      <button class="small" onClick={() => void run("/admin/compact", "Merges")}>
        Merge all
      </button>
    </span>
  );
}
