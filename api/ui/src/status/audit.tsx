// Who changed what, the latest first.
import { Card } from "../card";
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
        <div class="scroll limited" tabIndex={0} role="region" aria-label="Audit">
          <table class="rows">
            <thead>
              <tr>
                {["Time", "Action", "Token", "Target", "Outcome"].map((name) => (
                  <th key={name} scope="col">
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {(data ?? []).map((entry, i) => (
                <tr key={i}>
                  <td class="nowrap">{formatTime(Date.parse(`${entry.time.slice(0, 23)}Z`), "local").slice(0, 19)}</td>
                  <td>{entry.action}</td>
                  <td>{entry.principal}</td>
                  <td>{entry.target}</td>
                  <td>{entry.outcome}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
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
