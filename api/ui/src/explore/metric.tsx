// One metric: what it is, its labels with their values, and queries about it.
import { useState } from "preact/hooks";
import { fieldsOf, link } from "../address";
import { prometheus } from "../server/http";
import { useData } from "../use_data";
import { Share } from "../card";
import { familyOf, type Metadata } from "./metrics";
import { ReadCost } from "./read_cost";

const MOST_SERIES = 10_000;
const MOST_VALUES = 50;

interface Label {
  name: string;
  /** Values with their number of series, most first. */
  values: [string, number][];
}

interface Found {
  series: number;
  isCut: boolean;
  labels: Label[];
}

export function MetricDetail({ metric, database, metadata }: { metric: string; database: string; metadata: Metadata }) {
  const family = familyOf(metric, metadata);
  const { data, error } = useData((signal) => load(metric, database, signal), [metric, database]);
  return (
    <section class="detail" aria-label={metric}>
      <h1>{metric}</h1>
      <p class="soft">
        {[
          family?.type,
          family?.unit,
          data && `${data.series.toLocaleString("en")}${data.isCut ? "+" : ""} series in the last hours`,
        ]
          .filter(Boolean)
          .join(" · ")}
      </p>
      {family?.help && <p>{family.help}</p>}
      <p class="links">
        {queries(metric, family?.type ?? "").map(([title, query]) => (
          <a key={title} class="button" href={link("query", fieldsOf(database, { q: query }))} title={query}>
            {title}
          </a>
        ))}
      </p>
      <ReadCost selector={selector(metric)} database={database} />
      {error && <p class="error-text">{error.message}</p>}
      {data && (
        <div class="labels-list">
          {data.labels.map((label) => (
            <LabelCard key={label.name} label={label} series={data.series} metric={metric} database={database} />
          ))}
        </div>
      )}
    </section>
  );
}

/** A metric whose name is no word is named inside of the braces. */
function selector(metric: string, matcher = ""): string {
  if (/^[a-zA-Z_:][\w:]*$/.test(metric)) return matcher ? `${metric}{${matcher}}` : metric;
  return `{${[JSON.stringify(metric), matcher].filter(Boolean).join(", ")}}`;
}

function matcher(label: string, value: string): string {
  return `${/^[a-zA-Z_]\w*$/.test(label) ? label : JSON.stringify(label)}=${JSON.stringify(value)}`;
}

function queries(metric: string, type: string): [string, string][] {
  const name = selector(metric);
  const graph: [string, string] = ["Graph", name];
  if (/_bucket$/.test(metric))
    return [["99th percentile", `histogram_quantile(0.99, sum by (le) (rate(${name}[5m])))`], graph];
  if (type === "histogram" && !/_(sum|count)$/.test(metric))
    return [["99th percentile", `histogram_quantile(0.99, sum(rate(${name}[5m])))`], graph];
  if (type === "counter" || /_(total|sum|count)$/.test(metric))
    return [["Rate", `rate(${name}[5m])`], ["Sum of rates", `sum(rate(${name}[5m]))`], graph];
  return [graph, ["Sum", `sum(${name})`]];
}

async function load(metric: string, database: string, signal: AbortSignal): Promise<Found> {
  const start = Math.floor(Date.now() / 1000) - 3 * 3600;
  const match = `{__name__=${JSON.stringify(metric)}}`;
  const series = await prometheus<Record<string, string>[]>(
    "series",
    { "match[]": match, start, limit: MOST_SERIES },
    database,
    signal,
  );
  const counts = new Map<string, Map<string, number>>();
  for (const labels of series) {
    for (const [name, value] of Object.entries(labels)) {
      if (name === "__name__") continue;
      const values = counts.get(name) ?? new Map<string, number>();
      counts.set(name, values);
      values.set(value, (values.get(value) ?? 0) + 1);
    }
  }
  const labels = [...counts].map(([name, values]) => ({ name, values: [...values].sort((a, b) => b[1] - a[1]) }));
  return {
    series: series.length,
    isCut: series.length >= MOST_SERIES,
    labels: labels.sort((a, b) => a.values.length - b.values.length),
  };
}

function LabelCard({
  label,
  series,
  metric,
  database,
}: {
  label: Label;
  series: number;
  metric: string;
  database: string;
}) {
  const [isWhole, setIsWhole] = useState(false);
  const shown = label.values.slice(0, isWhole ? MOST_VALUES * 10 : 8);
  return (
    <section class="card" aria-label={`Label ${label.name}`}>
      <header>
        <h2>{label.name}</h2>
        <span class="soft">
          {label.values.length.toLocaleString("en")} {label.values.length === 1 ? "value" : "values"}
        </span>
      </header>
      <table class="ranking">
        <tbody>
          {shown.map(([value, count]) => (
            <tr key={value}>
              <td>
                <a href={link("query", fieldsOf(database, { q: selector(metric, matcher(label.name, value)) }))}>
                  {value || '""'}
                </a>
              </td>
              <td class="number">{count.toLocaleString("en")}</td>
              <td class="share">
                <Share share={count / series} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {shown.length < label.values.length && !isWhole && (
        <button class="small" onClick={() => setIsWhole(true)}>
          {(label.values.length - shown.length).toLocaleString("en")} more
        </button>
      )}
    </section>
  );
}
