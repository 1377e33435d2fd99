// What the server does: rates since the last look, and counts since its start.
import { useEffect, useRef, useState } from "preact/hooks";
import { Card, Facts, Share } from "../card";
import { formatValue, plain, type Unit } from "../graph/units";
import type { Figures } from "../server/figures";

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
      <table class="ranking">
        <thead>
          <tr>
            <th scope="col">Cache</th>
            <th scope="col" class="number">
              hits
            </th>
            <th scope="col" aria-label="Share of hits" />
            <th scope="col" class="number">
              of
            </th>
            <th scope="col" class="number">
              holds
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ name, hits, misses, share, bytes }) => (
            <tr key={name}>
              <td>{name}</td>
              <td class="number">{hits + misses > 0 ? `${plain(Math.round(share * 1000) / 10)} %` : "–"}</td>
              <td class="share">
                <Share share={share} />
              </td>
              <td class="number">{(hits + misses).toLocaleString("en")}</td>
              <td class="number">{formatValue(bytes, "bytes")}</td>
            </tr>
          ))}
        </tbody>
      </table>
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
      <table class="ranking">
        <thead>
          <tr>
            <th scope="col">Share</th>
            <th scope="col" class="number">
              used
            </th>
            <th scope="col" aria-label="Part of the limit" />
            <th scope="col" class="number">
              peak
            </th>
            <th scope="col" class="number">
              limit
            </th>
          </tr>
        </thead>
        <tbody>
          {shares.map(({ share, used, limit, peak }) => (
            <tr key={share}>
              <td>{share}</td>
              <td class="number">{formatValue(used, "bytes")}</td>
              <td class="share">
                <Share share={used / Math.max(1, limit)} />
              </td>
              <td class="number">{formatValue(peak, "bytes")}</td>
              <td class="number">{formatValue(limit, "bytes")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

function StoreRequests({ figures }: { figures: Figures }) {
  const name = "tidelake_store_requests_total";
  const purposes = [...new Set(figures.all(name).map(({ labels }) => labels["purpose"] ?? ""))];
  const operations = [...new Set(figures.all(name).map(({ labels }) => labels["operation"] ?? ""))];
  return (
    <Card title="Requests to the store">
      <table class="ranking">
        <thead>
          <tr>
            <th scope="col">Purpose</th>
            {operations.map((operation) => (
              <th key={operation} scope="col" class="number">
                {operation}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {purposes.map((purpose) => (
            <tr key={purpose}>
              <td>{purpose}</td>
              {operations.map((operation) => (
                <td key={operation} class="number">
                  {figures.sum(name, { purpose, operation }).toLocaleString("en")}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}
