// New and gone series by day, and the metrics and labels that they are of.
import { fieldsOf, go, link } from "../address";
import { Card } from "../card";
import { DataTable } from "../data_table";
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
  const exploring = (name: string) => link("explore", fieldsOf(database, { name }));
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
          <RankingTable
            ranking={chosen.metrics.slice(0, SHOWN)}
            title="new series"
            total={Math.max(1, chosen.added)}
            href={exploring}
          />
        </Card>
      )}
      {chosen && (
        <Card title={`Labels by new values, ${chosen.name}`}>
          <RankingTable ranking={chosen.labels.slice(0, SHOWN)} title="new values" />
        </Card>
      )}
    </div>
  );
}

function Days({ days, chosen, onChoose }: { days: Day[]; chosen: Day; onChoose(day: string): void }) {
  const most = Math.max(1, ...days.map(({ added }) => added));
  return (
    <DataTable
      label="New and gone series by day"
      look="ranking days"
      rows={days}
      keyOf={(day) => day.name}
      isChosen={(day) => day === chosen}
      columns={[
        {
          head: "Day",
          cell: (day) => (
            <button class="plain" aria-pressed={day === chosen} onClick={() => onChoose(day.name)}>
              {day.name}
              {day === days[0] && <span class="soft"> so far</span>}
            </button>
          ),
        },
        { head: "series", look: "count", cell: (day) => day.series },
        { head: "new", look: "count", cell: (day) => day.added },
        { head: "gone", look: "count", cell: (day) => day.gone },
        { head: "New series beside the day with most", look: "share", cell: (day) => day.added / most },
      ]}
    />
  );
}
