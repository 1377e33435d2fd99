// Who changed what, the latest first.
import { Card } from "../card";
import { DataTable } from "../data_table";
import { ServerError, sql } from "../server/http";
import { formatTime } from "../time/zone";
import { useData } from "../use_data";

interface Entry {
  time: string;
  action: string;
  principal: string;
  target: string;
  outcome: string;
  node: string;
}

const STATEMENT = "SELECT time, action, principal, target, outcome, node FROM audit ORDER BY time DESC LIMIT 200";

export function Audit() {
  const { data, error } = useData((signal) => load(signal), []);
  return (
    <Card title="Audit" error={error} wide>
      {data?.length === 0 ? (
        <p class="soft">Nothing was changed yet.</p>
      ) : (
        <DataTable
          label="Audit"
          look="rows"
          limited
          rows={data ?? []}
          keyOf={(_, i) => i}
          columns={[
            {
              head: "Time",
              look: "nowrap",
              cell: ({ time }) => formatTime(Date.parse(`${time.slice(0, 23)}Z`), "local").slice(0, 19),
            },
            { head: "Action", cell: ({ action }) => action },
            { head: "Token", cell: ({ principal }) => principal },
            { head: "Target", cell: ({ target }) => target },
            { head: "Outcome", cell: ({ outcome }) => outcome },
          ]}
        />
      )}
    </Card>
  );
}

/** The database of the records comes with the first of them. */
async function load(signal: AbortSignal): Promise<Entry[]> {
  try {
    return await sql<Entry>(STATEMENT, "_internal", signal);
  } catch (error) {
    if (error instanceof ServerError && (error.status === 404 || /not found|does not exist/.test(error.message)))
      return [];
    throw error;
  }
}
