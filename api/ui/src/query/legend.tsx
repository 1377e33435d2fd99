// The names of the lines with their numbers: a click shows one alone, with Ctrl it hides or shows one.
import { useEffect, useMemo, useState } from "preact/hooks";
import { seriesColour } from "../graph/colours";
import { formatValue, type Unit } from "../graph/units";
import { useTheme } from "../use_theme";
import type { Line, Stats } from "../worker/protocol";

/** Rows that are made without being asked for: a row costs more than a line. */
const FIRST_ROWS = 60;
/** Of these, those that are made in the first frame. */
const ROWS_AT_ONCE = 12;
const NUMBERS = ["last", "min", "mean", "max"] as const;
type NumberName = (typeof NUMBERS)[number];

interface Props {
  lines: Line[];
  /** Stands for a series without labels. */
  nameless: string;
  hidden: ReadonlySet<string>;
  onHide(hidden: ReadonlySet<string>): void;
  onPoint(name: string | undefined): void;
  unit: Unit;
}

interface Row {
  line: Line;
  place: number;
}

export function Legend({ lines, nameless, hidden, onHide, onPoint, unit }: Props) {
  const [sort, setSort] = useState<NumberName>();
  const [filter, setFilter] = useState("");
  const [isWhole, setIsWhole] = useState(false);
  const [isFirst, setIsFirst] = useState(true);
  useEffect(() => {
    const frame = requestAnimationFrame(() => setIsFirst(false));
    return () => cancelAnimationFrame(frame);
  }, []);
  const isDark = useTheme();
  const common = useMemo(() => commonLabels(lines), [lines]);
  const rows = useMemo(() => ordered(lines, sort, filter), [lines, sort, filter]);
  if (lines.length === 0) return null;
  const shown = isWhole ? rows : rows.slice(0, isFirst ? ROWS_AT_ONCE : FIRST_ROWS);
  const pick = (name: string, isAdding: boolean) =>
    onHide(isAdding ? toggled(hidden, name) : alone(lines, hidden, name));
  return (
    <div class="legend">
      {lines.length > 8 && (
        <div class="legend-tools">
          <input
            type="search"
            placeholder={`Filter ${lines.length} series`}
            aria-label="Filter the legend"
            value={filter}
            onInput={(e) => setFilter(e.currentTarget.value)}
          />
          {hidden.size > 0 && (
            <button class="small" onClick={() => onHide(new Set())}>
              Show all
            </button>
          )}
          {filter !== "" && (
            <button
              class="small"
              onClick={() =>
                onHide(new Set(lines.filter((line) => !rows.some((row) => row.line === line)).map(({ name }) => name)))
              }
            >
              Draw only these
            </button>
          )}
        </div>
      )}
      <table>
        <thead>
          <tr>
            <th scope="col">{common.length > 0 ? <CommonLabels labels={common} /> : "Series"}</th>
            {NUMBERS.map((name) => (
              <th key={name} scope="col" class="number" aria-sort={sort === name ? "descending" : "none"}>
                <button class="plain" onClick={() => setSort(sort === name ? undefined : name)}>
                  {name}
                  {sort === name ? " ↓" : ""}
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody onMouseLeave={() => onPoint(undefined)}>
          {shown.map(({ line, place }) => (
            <tr
              key={line.name}
              class={hidden.has(line.name) ? "is-hidden" : ""}
              onMouseEnter={() => onPoint(line.name)}
            >
              <td>
                <button
                  class="plain series"
                  aria-pressed={!hidden.has(line.name)}
                  title="Click: this one alone. Ctrl and click: hide or show."
                  onClick={(e) => pick(line.name, e.ctrlKey || e.metaKey)}
                >
                  <i class="swatch" style={{ background: seriesColour(place, isDark) }} />
                  <SeriesName line={line} common={common} nameless={nameless} />
                </button>
              </td>
              {NUMBERS.map((name) => (
                <td key={name} class="number">
                  {formatValue(line.stats[name], unit)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {shown.length < rows.length && !isFirst && (
        <button class="small" onClick={() => setIsWhole(true)}>
          {rows.length - shown.length} more
        </button>
      )}
    </div>
  );
}

function toggled(hidden: ReadonlySet<string>, name: string): ReadonlySet<string> {
  const next = new Set(hidden);
  if (!next.delete(name)) next.add(name);
  return next;
}

/** The line alone, or all if it was alone. */
function alone(lines: Line[], hidden: ReadonlySet<string>, name: string): ReadonlySet<string> {
  const isAlone = !hidden.has(name) && hidden.size >= lines.length - 1;
  return isAlone ? new Set() : new Set(lines.map((line) => line.name).filter((other) => other !== name));
}

function ordered(lines: Line[], sort: keyof Stats | undefined, filter: string): Row[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = lines
    .map((line, place) => ({ line, place }))
    .filter(({ line }) => words.every((word) => line.name.toLowerCase().includes(word)));
  if (!sort) return rows;
  const key = ({ line }: Row) => (Number.isNaN(line.stats[sort]) ? -Infinity : line.stats[sort]);
  return rows.sort((a, b) => key(b) - key(a));
}

/** Labels that all lines have alike: said once, above. */
function commonLabels(lines: Line[]): [string, string][] {
  const [first, ...rest] = lines;
  if (!first || rest.length === 0) return [];
  return first.labels.filter(([name, value]) =>
    rest.every((line) => line.labels.some(([n, v]) => n === name && v === value)),
  );
}

function CommonLabels({ labels }: { labels: [string, string][] }) {
  return (
    <span class="common" title="All series have these labels">
      {labels.map(([name, value]) => (name === "__name__" ? value : `${name}=${value}`)).join("  ")}
    </span>
  );
}

function SeriesName({ line, common, nameless }: { line: Line; common: [string, string][]; nameless: string }) {
  if (line.labels.length === 0) return <span>{nameless}</span>;
  const own = line.labels.filter(([name]) => !common.some(([other]) => other === name));
  if (own.length === 0) return <span>{line.name}</span>;
  const metric = own.find(([name]) => name === "__name__")?.[1];
  return (
    <span>
      {metric !== undefined && <b>{metric} </b>}
      {own
        .filter(([name]) => name !== "__name__")
        .map(([name, value], i) => (
          <span key={name} class="pair">
            {i > 0 ? " " : ""}
            <span class="soft">{name}=</span>
            {value}
          </span>
        ))}
    </span>
  );
}
