// How the server does: health, cluster, storage, queries, memory, limits, tokens, settings.
import { fieldsOf, go } from "../address";
import { partOf, Tabs } from "../tabs";
import { useData } from "../use_data";
import { Figures, loadFigures } from "../server/figures";
import { Activity } from "./activity";
import { Audit } from "./audit";
import { Cluster } from "./cluster";
import { Health } from "./health";
import { Limits } from "./limits";
import { Queries } from "./queries";
import { Segments } from "./segments";
import { Settings } from "./settings";
import { Tokens } from "./tokens";

const PARTS = {
  overview: "Overview",
  cluster: "Cluster",
  storage: "Storage",
  queries: "Queries",
  access: "Access",
  settings: "Settings",
} as const;
type Part = keyof typeof PARTS;
const EVERY_MS = 5000;

export function StatusView({ fields }: { fields: URLSearchParams }) {
  const database = fields.get("db") ?? "default";
  const part = partOf(PARTS, fields.get("part"), "overview");
  const figures = useData<Figures>(loadFigures, [], EVERY_MS);
  const show = (next: Part) => {
    const to = fieldsOf(database);
    if (next !== "overview") to.set("part", next);
    go("status", to);
  };
  return (
    <main class="status" id="main">
      <Tabs label="Parts of the status" parts={PARTS} chosen={part} onChoose={(next) => show(next)} />
      <div class="cards">
        {part === "overview" && <Health figures={figures.data} database={database} />}
        {part === "overview" && <Activity figures={figures.data} error={figures.error} />}
        {part === "cluster" && <Cluster />}
        {part === "storage" && <Segments database={database} />}
        {part === "queries" && <Queries figures={figures.data} />}
        {part === "access" && <Tokens />}
        {part === "access" && <Limits />}
        {part === "access" && <Audit />}
        {part === "settings" && <Settings />}
      </div>
    </main>
  );
}
