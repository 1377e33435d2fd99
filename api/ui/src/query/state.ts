// What the query view shows, and how the address has it.
import { DEFAULT_RANGE, type Range } from "../time/range";
import { isZone, type Zone } from "../time/zone";

export const LANGUAGES = ["promql", "sql", "influxql"] as const;
export type Language = (typeof LANGUAGES)[number];
export const LANGUAGE_NAMES: Record<Language, string> = { promql: "PromQL", sql: "SQL", influxql: "InfluxQL" };

export const SHOWS = ["graph", "table", "json", "explain"] as const;
export type Show = (typeof SHOWS)[number];

/** One query and how its answer is shown. */
export interface Panel {
  /** Of this page only: what stays the same when other panels come and go. */
  id: number;
  language: Language;
  text: string;
  show: Show;
  stacked: boolean;
  log: boolean;
  heat: boolean;
  exemplars: boolean;
  /** Empty: by the names of the metrics. */
  unit: string;
}

/** The whole view. */
export interface QueryState {
  database: string;
  range: Range;
  zone: Zone;
  /** Empty: by the width of the graph. */
  step: string;
  /** Empty: never. */
  refresh: string;
  panels: Panel[];
}

let nextId = 1;

/** A panel that asks nothing yet. */
export function emptyPanel(language: Language = "promql"): Panel {
  nextId += 1;
  const show = language === "promql" ? "graph" : "table";
  return { id: nextId, language, text: "", show, stacked: false, log: false, heat: false, exemplars: false, unit: "" };
}

const MAX_PANELS = 24;
const FLAGS = ["stacked", "log", "heat", "exemplars"] as const;

function oneOf<T extends string>(all: readonly T[], text: string, fallback: T): T {
  return (all as readonly string[]).includes(text) ? (text as T) : fallback;
}

/** Reads the state; unknown fields and values are ignored. `before` keeps the ids of panels. */
export function readState(fields: URLSearchParams, before?: QueryState): QueryState {
  const state: QueryState = {
    database: "default",
    range: { ...DEFAULT_RANGE },
    zone: "local",
    step: "",
    refresh: "",
    panels: [],
  };
  let panel: Panel | undefined;
  for (const [name, value] of fields) {
    if (name === "q") {
      if (state.panels.length === MAX_PANELS) break;
      panel = { ...emptyPanel(), id: before?.panels[state.panels.length]?.id ?? nextId, text: value };
      state.panels.push(panel);
    } else if (panel && name === "lang") {
      panel.language = oneOf(LANGUAGES, value, "promql");
    } else if (panel && name === "show") {
      panel.show = oneOf(SHOWS, value, "graph");
    } else if (panel && name === "unit") {
      panel.unit = value;
    } else if (panel && name === "with") {
      for (const flag of FLAGS) panel[flag] = value.split(",").includes(flag);
    } else if (name === "db") {
      state.database = value;
    } else if (name === "from") {
      state.range.from = value;
    } else if (name === "to") {
      state.range.to = value;
    } else if (name === "tz") {
      state.zone = isZone(value) ? value : "local";
    } else if (name === "step") {
      state.step = value;
    } else if (name === "refresh") {
      state.refresh = value;
    }
  }
  if (state.panels.length === 0) state.panels.push({ ...emptyPanel(), id: before?.panels[0]?.id ?? nextId });
  return state;
}

/** The fields of an address; what is as usual is left out. */
export function writeState(state: QueryState): URLSearchParams {
  const fields = new URLSearchParams();
  if (state.database !== "default") fields.append("db", state.database);
  if (state.range.from !== DEFAULT_RANGE.from) fields.append("from", state.range.from);
  if (state.range.to !== DEFAULT_RANGE.to) fields.append("to", state.range.to);
  if (state.zone !== "local") fields.append("tz", state.zone);
  if (state.step) fields.append("step", state.step);
  if (state.refresh) fields.append("refresh", state.refresh);
  for (const panel of state.panels) {
    fields.append("q", panel.text);
    if (panel.language !== "promql") fields.append("lang", panel.language);
    if (panel.show !== "graph") fields.append("show", panel.show);
    if (panel.unit) fields.append("unit", panel.unit);
    const flags = FLAGS.filter((flag) => panel[flag]);
    if (flags.length > 0) fields.append("with", flags.join(","));
  }
  return fields;
}
