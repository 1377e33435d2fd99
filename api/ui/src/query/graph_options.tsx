// How a graph is drawn.
import { UNITS } from "../graph/units";
import type { Graph } from "../worker/protocol";
import type { Panel } from "./state";

interface Props {
  panel: Panel;
  graph: Graph | undefined;
  /** What is used if none is chosen. */
  unit: string;
  onChange(changes: Partial<Panel>): void;
}

export function GraphOptions({ panel, graph, unit, onChange }: Props) {
  const hasBuckets = panel.heat || (graph?.lines.some(({ labels }) => labels.some(([name]) => name === "le")) ?? false);
  const flag = (name: "stacked" | "log" | "heat" | "exemplars", title: string) => (
    <button class="toggle" aria-pressed={panel[name]} onClick={() => onChange({ [name]: !panel[name] })}>
      {title}
    </button>
  );
  return (
    <div class="options" role="group" aria-label="Graph">
      {flag("stacked", "Stacked")}
      {flag("log", "Log")}
      {hasBuckets && flag("heat", "Heatmap")}
      {panel.language === "promql" && flag("exemplars", "Exemplars")}
      <select aria-label="Unit" value={panel.unit} onChange={(event) => onChange({ unit: event.currentTarget.value })}>
        <option value="">unit: {panel.unit === "" ? unit : "auto"}</option>
        {UNITS.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </div>
  );
}
