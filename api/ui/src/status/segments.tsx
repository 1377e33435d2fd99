// The segments of the database by level, day and table, and how to flush and merge.
import { useState } from "preact/hooks";
import { Card, Share } from "../card";
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

function SumsTable({ head, second, rows }: { head: string; second?: string; rows: [string, Sums, string?][] }) {
  const most = Math.max(1, ...rows.map(([, sums]) => sums.dataBytes + sums.indexBytes));
  return (
    <div class="scroll limited" tabIndex={0} role="region" aria-label={`Segments by ${head.toLowerCase()}`}>
      <table class="ranking">
        <thead>
          <tr>
            <th scope="col">{head}</th>
            {second && <th scope="col">{second}</th>}
            <th scope="col" class="number">
              segments
            </th>
            <th scope="col" class="number">
              rows
            </th>
            <th scope="col" class="number">
              data
            </th>
            <th scope="col" class="number">
              index
            </th>
            <th scope="col" aria-label="Share of the largest" />
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, sums, note], i) => (
            <tr key={i}>
              <td>{name}</td>
              {second && <td class="soft">{note}</td>}
              <td class="number">{sums.segments.toLocaleString("en")}</td>
              <td class="number">{sums.rows.toLocaleString("en")}</td>
              <td class="number">{formatValue(sums.dataBytes, "bytes")}</td>
              <td class="number">{formatValue(sums.indexBytes, "bytes")}</td>
              <td class="share">
                <Share share={(sums.dataBytes + sums.indexBytes) / most} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
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
