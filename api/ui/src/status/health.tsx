// Whether the server serves, since when, and how much it holds.
import { Card, Facts } from "../card";
import { formatValue } from "../graph/units";
import { getJson, send, ServerError } from "../server/http";
import type { Figures } from "../server/figures";
import { formatDuration } from "../time/duration";
import { formatTime } from "../time/zone";
import { useData } from "../use_data";

interface Runtime {
  startTime: string;
  serverTime: string;
  hostname: string;
  storageRetention: string;
}

interface Ready {
  isReady: boolean;
  message: string;
}

export function Health({ figures, database }: { figures: Figures | undefined; database: string }) {
  const ready = useData<Ready>(loadReady, [], 5000);
  const runtime = useData(
    async (signal) => (await getJson<{ data: Runtime }>("/api/v1/status/runtimeinfo", {}, database, signal)).data,
    [database],
  );
  const build = useData(
    async (signal) =>
      (await getJson<{ data: { version: string } }>("/api/v1/status/buildinfo", {}, database, signal)).data,
    [],
  );
  const { data } = runtime;
  const uptime = data
    ? formatDuration(Math.round((Date.parse(data.serverTime) - Date.parse(data.startTime)) / 60_000) * 60_000)
    : "";
  const damaged = figures?.sum("tidelake_quarantined_segments") ?? 0;
  return (
    <>
      <Card title="Server">
        <p class={ready.data?.isReady === false ? "state bad" : "state good"} role="status">
          {ready.data ? ready.data.message : ready.error ? "does not answer" : "…"}
        </p>
        <Facts
          facts={[
            ["Version", build.data?.version ?? ""],
            ["Host", data?.hostname || "–"],
            ["Started", data ? `${formatTime(Date.parse(data.startTime), "local").slice(0, 19)} (${uptime})` : ""],
            ["Retention of the database", data?.storageRetention || "–"],
          ]}
        />
      </Card>
      {figures && (
        <Card title="Data">
          <Facts
            facts={[
              ["Active series", figures.sum("tidelake_active_series").toLocaleString("en")],
              ["Rows in the buffer", figures.sum("tidelake_buffer_rows").toLocaleString("en")],
              ["Buffer", formatValue(figures.sum("tidelake_buffer_bytes"), "bytes")],
              ["Segments", figures.sum("tidelake_segments").toLocaleString("en")],
              ["On the store", formatValue(figures.sum("tidelake_segment_bytes"), "bytes")],
              ["Damaged segments", <span class={damaged > 0 ? "error-text" : ""}>{damaged}</span>],
              ["Free disk", formatValue(figures.sum("tidelake_disk_free_bytes"), "bytes")],
            ]}
          />
        </Card>
      )}
    </>
  );
}

async function loadReady(signal: AbortSignal): Promise<Ready> {
  try {
    await send("/ready", { signal });
    return { isReady: true, message: "Serves reads and writes" };
  } catch (error) {
    if (error instanceof ServerError && error.status === 503) return { isReady: false, message: error.message };
    throw error;
  }
}
