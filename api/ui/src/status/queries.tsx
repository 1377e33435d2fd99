// The queries that run, longest first, each with a button to stop it, how queries ended, and what classes took.
import { useState } from "preact/hooks";
import { Card, Share } from "../card";
import { formatValue } from "../graph/units";
import type { Figures } from "../server/figures";
import { getJson, send } from "../server/http";
import { useData } from "../use_data";

interface Running {
  id: number;
  language: string;
  database: string;
  principal: string;
  class: string;
  begun_ms: number;
  running_ms: number;
  text: string;
}

export function Queries({ figures }: { figures: Figures | undefined }) {
  const { data, error, again } = useData(
    async (signal) =>
      (await getJson<Running[]>("/admin/queries", {}, undefined, signal)).sort((a, b) => b.running_ms - a.running_ms),
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
          <div class="scroll" tabIndex={0} role="region" aria-label="Queries that run">
            <table class="rows running">
              <thead>
                <tr>
                  <th scope="col">Query</th>
                  <th scope="col">Language</th>
                  <th scope="col">Database</th>
                  <th scope="col">Token</th>
                  <th scope="col">Class</th>
                  <th scope="col" class="number">
                    runs for
                  </th>
                  <th scope="col" aria-label="Stop" />
                </tr>
              </thead>
              <tbody>
                {data.map((query) => (
                  <tr key={query.id}>
                    <td>
                      <code class="cell">{query.text || "–"}</code>
                    </td>
                    <td>{query.language}</td>
                    <td>{query.database}</td>
                    <td>{query.principal}</td>
                    <td>{query.class}</td>
                    <td class="number">{formatValue(query.running_ms / 1000, "seconds")}</td>
                    <td>
                      <button
                        class="small danger"
                        aria-label={`Stop query ${query.id}`}
                        onClick={() => void stop(query.id)}
                      >
                        Stop
                      </button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Card>
      {figures && <Ended figures={figures} />}
      {figures && <Classes figures={figures} />}
    </>
  );
}

function Ended({ figures }: { figures: Figures }) {
  const name = "tidelake_queries_ended_total";
  const languages = [...new Set(figures.all(name).map(({ labels }) => labels["language"] ?? ""))];
  const outcomes = [...new Set(figures.all(name).map(({ labels }) => labels["outcome"] ?? ""))];
  return (
    <Card title="Ended since the start" wide>
      <div class="scroll" tabIndex={0} role="region" aria-label="Queries by language and outcome">
        <table class="ranking">
          <thead>
            <tr>
              <th scope="col">Language</th>
              {outcomes.map((outcome) => (
                <th key={outcome} scope="col" class="number">
                  {outcome.replace("_", " ")}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {languages.map((language) => (
              <tr key={language}>
                <td>{language}</td>
                {outcomes.map((outcome) => (
                  <td key={outcome} class="number">
                    {figures.sum(name, { language, outcome }).toLocaleString("en")}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
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
      <table class="ranking">
        <thead>
          <tr>
            <th scope="col">Class</th>
            <th scope="col" class="number">
              since the start
            </th>
            <th scope="col" aria-label="Share of all" />
            <th scope="col" class="number">
              became heavy
            </th>
          </tr>
        </thead>
        <tbody>
          {classes.map(({ name, seconds }) => (
            <tr key={name}>
              <td>{name}</td>
              <td class="number">{formatValue(seconds, "seconds")}</td>
              <td class="share">
                <Share share={all > 0 ? seconds / all : 0} />
              </td>
              <td class="number">{heavy(figures, name)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

/** Queries that began in a class and went on as heavy ones; merges and heavy ones have no such number. */
function heavy(figures: Figures, name: string): string {
  const counted = figures.all("tidelake_queries_heavy_total").find(({ labels }) => labels["class"] === name);
  return counted ? counted.value.toLocaleString("en") : "–";
}
