// The queries that run, longest first, each with a button to stop it, what those cost that have ended, how these ended,
// and what classes took.
import { useState } from "preact/hooks";
import { Card } from "../card";
import { DataTable } from "../data_table";
import { formatSmallDollars } from "../explore/prices";
import { formatValue } from "../graph/units";
import type { Figures } from "../server/figures";
import { send } from "../server/http";
import { loadRunning } from "../server/queries";
import { useData } from "../use_data";
import { FigureMatrix } from "./matrix";
import { QueryCosts } from "./query_costs";

export function Queries({ figures }: { figures: Figures | undefined }) {
  const { data, error, again } = useData(
    async (signal) => (await loadRunning(signal)).sort((a, b) => b.running_ms - a.running_ms),
    [],
    1000,
  );
  const [failed, setFailed] = useState("");
  const stop = async (id: number) => {
    setFailed("");
    try {
      await send(`/admin/queries?id=${id}`, { method: "DELETE" });
    } catch (refused) {
      setFailed(refused instanceof Error ? refused.message : String(refused));
    }
    again();
  };
  return (
    <>
      <Card title="Running" error={error} wide>
        {failed && <p class="error-text">{failed}</p>}
        {data?.length === 0 && <p class="soft">None.</p>}
        {data && data.length > 0 && (
          <DataTable
            label="Queries that run"
            look="rows running"
            rows={data}
            keyOf={({ id }) => id}
            columns={[
              { head: "Query", cell: ({ text }) => <code class="cell">{text || "–"}</code> },
              { head: "Language", cell: ({ language }) => language },
              { head: "Database", cell: ({ database }) => database },
              { head: "Token", cell: ({ principal }) => principal },
              { head: "Class", cell: (query) => query.class },
              { head: "runs for", look: "number", cell: ({ running_ms }) => formatValue(running_ms / 1000, "seconds") },
              { head: "has read", look: "number", cell: ({ bytes }) => formatValue(bytes, "bytes") },
              { head: "dollars", look: "number", cell: ({ dollars }) => formatSmallDollars(dollars) },
              {
                head: "Stop",
                look: "tools",
                cell: ({ id }) => (
                  <button class="small danger" aria-label={`Stop query ${id}`} onClick={() => void stop(id)}>
                    Stop
                  </button>
                ),
              },
            ]}
          />
        )}
      </Card>
      <QueryCosts />
      {figures && <Ended figures={figures} />}
      {figures && <Classes figures={figures} />}
    </>
  );
}

function Ended({ figures }: { figures: Figures }) {
  return (
    <Card title="Ended since the start" wide>
      <FigureMatrix
        figures={figures}
        name="tidelake_queries_ended_total"
        head="Language"
        row="language"
        column="outcome"
        label="Queries by language and outcome"
      />
    </Card>
  );
}

/** What each class took: the processors of queries and merges are shared by class. */
function Classes({ figures }: { figures: Figures }) {
  const name = "tidelake_class_cpu_seconds_total";
  const classes = figures.all(name).map(({ labels, value }) => ({ name: labels["class"] ?? "", seconds: value }));
  const all = classes.reduce((sum, { seconds }) => sum + seconds, 0);
  return (
    <Card title="Processor time by class">
      <DataTable
        look="ranking"
        rows={classes}
        keyOf={({ name }) => name}
        columns={[
          { head: "Class", cell: ({ name }) => name },
          { head: "since the start", look: "number", cell: ({ seconds }) => formatValue(seconds, "seconds") },
          { head: "Share of all", look: "share", cell: ({ seconds }) => (all > 0 ? seconds / all : 0) },
          { head: "became heavy", look: "number", cell: ({ name }) => heavy(figures, name) },
        ]}
      />
    </Card>
  );
}

/** Queries that began in a class and went on as heavy ones; merges and heavy ones have no such number. */
function heavy(figures: Figures, name: string): string {
  const counted = figures.all("tidelake_queries_heavy_total").find(({ labels }) => labels["class"] === name);
  return counted ? counted.value.toLocaleString("en") : "–";
}
