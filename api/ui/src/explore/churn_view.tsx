// New and gone series by day, and the metrics and labels that they are of.
import { go, link } from "../address";
import { Card, Share } from "../card";
import { loadCardinality } from "../server/cardinality";
import { useData } from "../use_data";
import { loadDays, RANKS, type Day } from "./churn";
import { RankingTable } from "./ranking";

const SHOWN = 20;

export function Churn({ database, fields }: { database: string; fields: URLSearchParams }) {
  const { data, error } = useData(
    (signal) =>
      loadDays(Date.now(), (from, to) =>
        loadCardinality(database, { limit: RANKS, start: from / 1000, end: to / 1000 }, signal),
      ),
    [database],
  );
  const chosen = data?.find(({ name }) => name === fields.get("day")) ?? data?.[0];
  const choose = (day: string) => {
    const to = new URLSearchParams(fields);
    to.set("day", day);
    go("explore", to, "replace");
  };
  const exploring = (name: string) =>
    link("explore", new URLSearchParams({ ...(database === "default" ? {} : { db: database }), name }));
  return (
    <div class="cards">
      <Card title="Series by day" error={error} wide>
        {!data && <p class="soft">Counts the series of eight days…</p>}
        {data && chosen && <Days days={data} chosen={chosen} onChoose={choose} />}
        <p class="soft note">
          Days of UTC. New series were not there on the day before; gone ones were there on the day before only.
          {chosen?.isCut && ` Only the ${RANKS.toLocaleString("en")} largest metrics and labels are compared.`}
        </p>
      </Card>
      {chosen && (
        <Card title={`Metrics by new series, ${chosen.name}`}>
          <RankingTable ranking={chosen.metrics.slice(0, SHOWN)} total={Math.max(1, chosen.added)} href={exploring} />
        </Card>
      )}
      {chosen && (
        <Card title={`Labels by new values, ${chosen.name}`}>
          <RankingTable ranking={chosen.labels.slice(0, SHOWN)} />
        </Card>
      )}
    </div>
  );
}

function Days({ days, chosen, onChoose }: { days: Day[]; chosen: Day; onChoose(day: string): void }) {
  const most = Math.max(1, ...days.map(({ added }) => added));
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="New and gone series by day">
      <table class="ranking days">
        <thead>
          <tr>
            <th scope="col">Day</th>
            <th scope="col" class="number">
              series
            </th>
            <th scope="col" class="number">
              new
            </th>
            <th scope="col" class="number">
              gone
            </th>
            <th scope="col" aria-label="New series beside the day with most" />
          </tr>
        </thead>
        <tbody>
          {days.map((day, i) => (
            <tr key={day.name} class={day === chosen ? "is-chosen" : ""}>
              <td>
                <button class="plain" aria-pressed={day === chosen} onClick={() => onChoose(day.name)}>
                  {day.name}
                  {i === 0 && <span class="soft"> so far</span>}
                </button>
              </td>
              <td class="number">{day.series.toLocaleString("en")}</td>
              <td class="number">{day.added.toLocaleString("en")}</td>
              <td class="number">{day.gone.toLocaleString("en")}</td>
              <td class="share">
                <Share share={day.added / most} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
