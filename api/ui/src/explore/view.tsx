// What is in a database: metrics with their labels, tables with their columns, what is large, what comes and goes.
import { useMemo } from "preact/hooks";
import { fieldsOf, go } from "../address";
import { partOf, Tabs } from "../tabs";
import { completionOf } from "../query/completion";
import { useData } from "../use_data";
import { Churn } from "./churn_view";
import { Cost } from "./cost";
import { MetricDetail } from "./metric";
import { MetricList } from "./metrics";
import { TableDetail, TableList } from "./tables";

const PARTS = { metrics: "Metrics", tables: "Tables", cost: "What is large", churn: "Churn" } as const;
type Part = keyof typeof PARTS;

export function ExploreView({ fields }: { fields: URLSearchParams }) {
  const database = fields.get("db") ?? "default";
  const part = partOf(PARTS, fields.get("part"), "metrics");
  const chosen = fields.get("name") ?? "";
  const source = useMemo(() => completionOf(database), [database]);
  const metrics = useData(async () => {
    const [names, metadata] = await Promise.all([source.metricNames(), source.metadata()]);
    return { names, metadata };
  }, [source]);
  const tables = useData(() => source.tables(), [source]);
  const show = (next: Part, name = "") => {
    const to = fieldsOf(database);
    if (next !== "metrics") to.set("part", next);
    if (name) to.set("name", name);
    go("explore", to, name && next === part ? "replace" : "push");
  };
  return (
    <main class="explore" id="main">
      <Tabs label="What is explored" parts={PARTS} chosen={part} onChoose={(next) => show(next)} />
      {part === "metrics" && (
        <div class="split">
          <MetricList
            names={metrics.data?.names}
            metadata={metrics.data?.metadata ?? {}}
            chosen={chosen}
            onChoose={(name) => show("metrics", name)}
          />
          {chosen ? (
            <MetricDetail key={chosen} metric={chosen} database={database} metadata={metrics.data?.metadata ?? {}} />
          ) : (
            <p class="nothing">Choose a metric to see its labels.</p>
          )}
        </div>
      )}
      {part === "tables" && (
        <div class="split">
          <TableList tables={tables.data?.["public"]} chosen={chosen} onChoose={(name) => show("tables", name)} />
          {chosen ? (
            <TableDetail key={chosen} table={chosen} database={database} />
          ) : (
            <p class="nothing">Choose a table to see its columns.</p>
          )}
        </div>
      )}
      {part === "cost" && <Cost database={database} fields={fields} />}
      {part === "churn" && <Churn database={database} fields={fields} />}
    </main>
  );
}
