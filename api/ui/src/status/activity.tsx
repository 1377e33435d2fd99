// What the server does: rates since the last look, and counts since its start.
import { useEffect, useRef, useState } from "preact/hooks";
import { Card, Facts } from "../card";
import { DataTable } from "../data_table";
import { formatValue, plain, type Unit } from "../graph/units";
import type { Figures } from "../server/figures";
import { FigureMatrix } from "./matrix";

export function Activity({ figures, error }: { figures: Figures | undefined; error: Error | undefined }) {
  const rates = useRates(figures);
  if (!figures) return error ? <Card title="Activity" error={error} children={null} /> : null;
  const count = (name: string, labels: Record<string, string> = {}) => figures.sum(name, labels).toLocaleString("en");
  const mean = (sum: string, number: string) =>
    figures.sum(number) > 0 ? formatValue(figures.sum(sum) / figures.sum(number), "seconds") : "–";
  const oldest = figures.sum("tidelake_oldest_unflushed_row_seconds");
  return (
    <>
      <Card title="Now">
        <Facts
          facts={[
            ["Points written", rates("tidelake_write_points_total", "per second")],
            ["Bytes received", rates("tidelake_write_body_bytes_total", "bytes/s")],
            ["Queries answered", rates("tidelake_queries_ended_total", "per second", { outcome: "answered" })],
            ["Rows read", rates("tidelake_query_read_rows_total", "per second")],
            ["Bytes read of the store", rates("tidelake_query_read_bytes_total", "bytes/s")],
            ["CPU", rates("process_cpu_seconds_total", "ratio")],
            ["Memory of the process", formatValue(figures.sum("process_resident_memory_bytes"), "bytes")],
            ["Connections", count("tidelake_connections")],
          ]}
        />
      </Card>
      <Card title="Log, flushes and merges">
        <Facts
          facts={[
            ["Log objects", count("tidelake_wal_objects_total")],
            ["Time of a put", mean("tidelake_wal_put_seconds_total", "tidelake_wal_objects_total")],
            ["Put errors", count("tidelake_wal_put_errors_total")],
            ["Oldest row in no segment", oldest > 0 ? formatValue(oldest, "seconds") : "–"],
            ["Flushes", `${count("tidelake_flushes_total")} (${count("tidelake_flush_failures_total")} failed)`],
            ["Merges", `${count("tidelake_merges_total")} (${count("tidelake_merge_failures_total")} failed)`],
            [
              "Merged",
              `${formatValue(figures.sum("tidelake_merge_read_bytes_total"), "bytes")} to ${formatValue(figures.sum("tidelake_merge_written_bytes_total"), "bytes")}`,
            ],
            ["Segments waiting for a merge", count("tidelake_merge_backlog")],
          ]}
        />
      </Card>
      <Caches figures={figures} />
      <Memory figures={figures} />
      <StoreRequests figures={figures} />
    </>
  );
}

/** The rate of a counter between the last two readings, as text. */
function useRates(figures: Figures | undefined): (name: string, unit: Unit, labels?: Record<string, string>) => string {
  const latest = useRef<Figures | undefined>(undefined);
  const [before, setBefore] = useState<Figures | undefined>(undefined);
  useEffect(() => {
    setBefore(latest.current);
    latest.current = figures;
  }, [figures]);
  return (name, unit, labels) => {
    if (!figures || !before || figures.time <= before.time) return "…";
    return formatValue(
      Math.max(0, ((figures.sum(name, labels) - before.sum(name, labels)) / (figures.time - before.time)) * 1000),
      unit,
    );
  };
}

function Caches({ figures }: { figures: Figures }) {
  const rows = (["index", "page"] as const).map((name) => {
    const [hits, misses] = [
      figures.sum(`tidelake_${name}_cache_hits_total`),
      figures.sum(`tidelake_${name}_cache_misses_total`),
    ];
    const share = hits + misses > 0 ? hits / (hits + misses) : 0;
    return { name, hits, misses, share, bytes: figures.sum(`tidelake_${name}_cache_bytes`) };
  });
  return (
    <Card title="Caches">
      <DataTable
        look="ranking"
        rows={rows}
        keyOf={({ name }) => name}
        columns={[
          { head: "Cache", cell: ({ name }) => name },
          {
            head: "hits",
            look: "number",
            cell: ({ hits, misses, share }) => (hits + misses > 0 ? `${plain(Math.round(share * 1000) / 10)} %` : "–"),
          },
          { head: "Share of hits", look: "share", cell: ({ share }) => share },
          { head: "of", look: "count", cell: ({ hits, misses }) => hits + misses },
          { head: "holds", look: "number", cell: ({ bytes }) => formatValue(bytes, "bytes") },
        ]}
      />
    </Card>
  );
}

function Memory({ figures }: { figures: Figures }) {
  const shares = figures.all("tidelake_memory_share_used_bytes").map(({ labels, value }) => {
    const share = labels["share"] ?? "";
    return {
      share,
      used: value,
      limit: figures.sum("tidelake_memory_share_limit_bytes", { share }),
      peak: figures.sum("tidelake_memory_share_peak_bytes", { share }),
    };
  });
  return (
    <Card title="Memory by share">
      <DataTable
        look="ranking"
        rows={shares}
        keyOf={({ share }) => share}
        columns={[
          { head: "Share", cell: ({ share }) => share },
          { head: "used", look: "number", cell: ({ used }) => formatValue(used, "bytes") },
          { head: "Part of the limit", look: "share", cell: ({ used, limit }) => used / Math.max(1, limit) },
          { head: "peak", look: "number", cell: ({ peak }) => formatValue(peak, "bytes") },
          { head: "limit", look: "number", cell: ({ limit }) => formatValue(limit, "bytes") },
        ]}
      />
    </Card>
  );
}

function StoreRequests({ figures }: { figures: Figures }) {
  return (
    <Card title="Requests to the store">
      <FigureMatrix
        figures={figures}
        name="tidelake_store_requests_total"
        head="Purpose"
        row="purpose"
        column="operation"
      />
    </Card>
  );
}
