// PromQL in the editor: the grammar and completion of Prometheus' own editor, with answers of this server.
import { PromQLExtension } from "@prometheus-io/codemirror-promql";
import { EqlRegex, EqlSingle, Neq, NeqRegex } from "@prometheus-io/lezer-promql";
import type { Extension } from "@codemirror/state";
import type { Source } from "./interface";

interface Matcher {
  name: string;
  value: string;
  type: number;
  matchesEmpty(): boolean;
}

/** Matchers have their operator as a term of the grammar. */
const OPERATORS = new Map([
  [EqlSingle, "="],
  [Neq, "!="],
  [EqlRegex, "=~"],
  [NeqRegex, "!~"],
]);

type Client = Exclude<NonNullable<Parameters<PromQLExtension["setComplete"]>[0]>["remote"], undefined>;

export function promql(source: Source): Extension {
  const client = {
    labelNames: (metric?: string) => source.labelNames(selector(metric)),
    labelValues: (label: string, metric?: string, matchers?: Matcher[]) =>
      label === "__name__" ? source.metricNames() : source.labelValues(label, selector(metric, matchers, label)),
    metricMetadata: () => source.metadata(),
    series: async (metric: string, matchers?: Matcher[], label?: string) => {
      const found = await source.series(selector(metric, matchers, label));
      return found.map((labels) => new Map(Object.entries(labels)));
    },
    metricNames: () => source.metricNames(),
    flags: async () => ({}),
  };
  // The server checks expressions, so that the editor never disagrees with it.
  const extension = new PromQLExtension().activateLinter(false).setComplete({ remote: client as unknown as Client });
  return extension.asExtension();
}

/** A selector of what is typed so far. */
function selector(metric?: string, matchers: Matcher[] = [], except?: string): string {
  const parts = matchers
    .filter(({ name, value }) => name !== except && name !== "" && value !== "")
    .map((matcher) => `${matcher.name}${operator(matcher)}${JSON.stringify(matcher.value)}`);
  if (metric && /^[a-zA-Z_:][\w:]*$/.test(metric)) return parts.length > 0 ? `${metric}{${parts.join(",")}}` : metric;
  const name = metric ? [`__name__=${JSON.stringify(metric)}`] : [];
  const all = [...name, ...parts];
  return all.length > 0 ? `{${all.join(",")}}` : "";
}

function operator({ type }: Matcher): string {
  return OPERATORS.get(type) ?? "=";
}
