// One query and its answer.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { chosenUnit, formatValue, UNITS } from "../graph/units";
import type { Source } from "../editor/interface";
import { CloseIcon, CopyIcon, HistoryIcon } from "../icons";
import { ServerError } from "../server/http";
import { absolute, stepOf, type Range, type Span } from "../time/range";
import { formatDuration } from "../time/duration";
import type { Zone } from "../time/zone";
import type { Answer, Graph as Drawn, Job } from "../worker/protocol";
import { QueryEditor } from "./editor";
import { ErrorBox } from "./error_box";
import { exemplars as loadExemplars, type Exemplar } from "./exemplars";
import { Explain } from "./explain";
import { Graph } from "./graph";
import { remember } from "./history";
import { placeOf } from "./position";
import { Raw } from "./raw";
import { Cancelled, Runner } from "./runner";
import { LANGUAGE_NAMES, LANGUAGES, SHOWS, type Language, type Panel as PanelState, type Show } from "./state";
import { Table } from "./table";
import { token } from "../server/session";
import { useCheck } from "./check";

const SHOW_NAMES: Record<Show, string> = { graph: "Graph", table: "Table", json: "JSON", explain: "Explain" };

interface Props {
  panel: PanelState;
  database: string;
  source: Source;
  span: Span | undefined;
  step: string;
  zone: Zone;
  /** Another number each time that all panels are to run. */
  turn: number;
  isOnly: boolean;
  onChange(changes: Partial<PanelState>): void;
  onRemove(): void;
  onDuplicate(): void;
  onRange(range: Range): void;
  onPan(by: number): void;
  onHistory(): void;
}

interface Result {
  job: Job;
  answer: Answer;
}

export function Panel(props: Props) {
  const { panel, database, span, zone } = props;
  const [draft, setDraft] = useState(panel.text);
  const [result, setResult] = useState<Result | undefined>(undefined);
  const [graph, setGraph] = useState<Drawn | undefined>(undefined);
  const [failed, setFailed] = useState<ServerError | undefined>(undefined);
  const [isRunning, setIsRunning] = useState(false);
  const [found, setFound] = useState<Exemplar[]>([]);
  const body = useRef<HTMLDivElement>(null);
  const runner = useRef<Runner | undefined>(undefined);
  const turns = useRef(0);
  useEffect(() => () => runner.current?.close(), []);
  useEffect(() => setDraft(panel.text), [panel.text]);

  const width = () => Math.max(200, (body.current?.clientWidth ?? 800) - 60);
  const shape = () => ({ width: width(), stacked: panel.stacked, heat: panel.heat });
  // A table of PromQL shows one time, the end of the range.
  const isInstant = panel.language === "promql" && panel.show === "table";
  const job = useMemo<Job | undefined>(() => {
    if (!span || panel.text.trim() === "") return undefined;
    const step = isInstant ? 0 : stepOf(props.step, span, width());
    // On the grid of the step, so that a refresh asks for the same times again.
    const to = step > 0 ? Math.floor(span.to / step) * step : span.to;
    const from = step > 0 ? Math.floor(span.from / step) * step : span.from;
    const isTable = panel.language !== "promql";
    return {
      language: panel.language,
      text: withTimes(panel, span, stepOf(props.step, span, width())),
      database,
      token: token(),
      from: isTable ? span.from : from,
      to: isTable ? span.to : to,
      step,
    };
  }, [panel.text, panel.language, isInstant, database, span, props.step, props.turn]);

  useEffect(() => {
    if (!job) {
      setResult(undefined);
      setFailed(undefined);
      return;
    }
    turns.current += 1;
    const turn = turns.current;
    runner.current ??= new Runner();
    setIsRunning(true);
    runner.current.run(job, shape()).then(
      (answer) => {
        if (turn !== turns.current) return;
        // In traces: when the last byte was there.
        performance.mark("answered", { startTime: performance.now() - answer.parseMs });
        setResult({ job, answer });
        setGraph(answer.graph);
        setFailed(undefined);
        setIsRunning(false);
        remember(job.language, panel.text);
      },
      (error: unknown) => {
        if (turn !== turns.current) return;
        setIsRunning(false);
        if (error instanceof Cancelled) return;
        setResult(undefined);
        setFailed(error instanceof ServerError ? error : new ServerError(String(error), 0));
      },
    );
  }, [job]);
  useEffect(() => {
    if (result) void runner.current?.shape(shape()).then((shaped) => shaped && setGraph(shaped));
  }, [panel.stacked, panel.heat]);
  useEffect(() => {
    if (!panel.exemplars || !result || panel.language !== "promql") return setFound([]);
    const control = new AbortController();
    loadExemplars(panel.text, result.job, database, control.signal).then(setFound, () => {});
    return () => control.abort();
  }, [panel.exemplars, result]);

  const check = useCheck(panel.language, draft, database);
  const runError =
    failed && draft === panel.text ? { place: placeOf(failed.message, draft), message: failed.message } : undefined;
  const error = useMemo(() => runError ?? check, [failed, check, draft === panel.text]);
  const unit = chosenUnit(panel.unit, panel.language === "promql" ? panel.text : "", graph?.heat !== undefined);
  const run = () => (draft === panel.text ? props.onChange({}) : props.onChange({ text: draft }));
  const stop = () => {
    runner.current?.cancel();
    turns.current += 1;
    setIsRunning(false);
  };
  const shows = SHOWS.filter((show) => show !== "explain" || panel.language !== "influxql");
  return (
    <section class="panel" aria-label={`Query in ${LANGUAGE_NAMES[panel.language]}`} aria-busy={isRunning}>
      <div class="ask">
        <select
          class="language"
          aria-label="Language"
          value={panel.language}
          onChange={(event) => {
            const language = event.currentTarget.value as Language;
            props.onChange({
              language,
              text: draft,
              show: language === "influxql" && panel.show === "explain" ? "table" : panel.show,
            });
          }}
        >
          {LANGUAGES.map((language) => (
            <option key={language} value={language}>
              {LANGUAGE_NAMES[language]}
            </option>
          ))}
        </select>
        <QueryEditor
          language={panel.language}
          text={draft}
          source={props.source}
          error={error}
          isFocused={false}
          onChange={setDraft}
          onRun={run}
        />
        <div class="ask-tools">
          {isRunning ? (
            <button class="stop" onClick={stop}>
              Stop
            </button>
          ) : (
            <button class="primary run" onClick={run} title="Ctrl and Enter; for PromQL also Enter">
              Run
            </button>
          )}
          <button
            class="icon"
            aria-label="History and saved queries"
            title="History and saved queries"
            onClick={props.onHistory}
          >
            <HistoryIcon />
          </button>
          <button
            class="icon"
            aria-label="Duplicate this panel"
            title="Duplicate this panel"
            onClick={props.onDuplicate}
          >
            <CopyIcon />
          </button>
          {!props.isOnly && (
            <button class="icon" aria-label="Remove this panel" title="Remove this panel" onClick={props.onRemove}>
              <CloseIcon />
            </button>
          )}
        </div>
      </div>
      <div class="tabs-row">
        <div class="tabs" role="tablist" aria-label="How the answer is shown">
          {shows.map((show) => (
            <button key={show} role="tab" aria-selected={panel.show === show} onClick={() => props.onChange({ show })}>
              {SHOW_NAMES[show]}
            </button>
          ))}
        </div>
        {panel.show === "graph" && <GraphOptions panel={panel} graph={graph} unit={unit} onChange={props.onChange} />}
        <Summary result={result} isRunning={isRunning} />
      </div>
      <div class="body" ref={body} aria-live="off">
        {isRunning && <div class="progress" role="progressbar" aria-label="The query runs" />}
        {failed && panel.show !== "explain" && <ErrorBox error={failed} text={panel.text} />}
        {result?.answer.remarks.map((remark) => (
          <p key={remark} class="remark">
            {remark}
          </p>
        ))}
        {!failed && result && graph && panel.show === "graph" && (
          <GraphOrNot graph={graph} answer={result.answer}>
            <Graph
              graph={graph}
              unit={unit}
              isLog={panel.log}
              zone={zone}
              exemplars={found}
              onSelect={(from, to) => props.onRange(absolute({ from, to }))}
              onPan={props.onPan}
            />
          </GraphOrNot>
        )}
        {!failed && result && runner.current && panel.show === "table" && (
          <Table
            runner={runner.current}
            columns={result.answer.columns}
            rows={result.answer.rows}
            zone={zone}
            answer={result}
          />
        )}
        {!failed && result && runner.current && panel.show === "json" && (
          <Raw runner={runner.current} answer={result} />
        )}
        {panel.show === "explain" && job && <Explain job={job} />}
      </div>
    </section>
  );
}

/** `$from`, `$to` and `$step` of SQL and InfluxQL are the range and the step of the page. */
function withTimes({ language, text }: PanelState, { from, to }: Span, step: number): string {
  if (language === "promql") return text;
  const time = (ms: number) => `'${new Date(ms).toISOString()}'`;
  const length =
    language === "sql"
      ? `INTERVAL '${Math.max(1, Math.round(step))} milliseconds'`
      : `${Math.max(1, Math.round(step))}ms`;
  return text.replace(/\$(from|to|step)\b/g, (_, name: string) =>
    name === "from" ? time(from) : name === "to" ? time(to) : length,
  );
}

function GraphOptions({
  panel,
  graph,
  unit,
  onChange,
}: {
  panel: PanelState;
  graph: Drawn | undefined;
  unit: string;
  onChange(changes: Partial<PanelState>): void;
}) {
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

function Summary({ result, isRunning }: { result: Result | undefined; isRunning: boolean }) {
  if (!result) return <span class="summary">{isRunning ? "…" : ""}</span>;
  const { answer, job } = result;
  const count = (value: number, name: string) => `${value.toLocaleString("en")} ${name}`;
  const facts = [
    answer.type === "table" ? count(answer.rows, "rows") : count(answer.series || answer.rows, "series"),
    ...(answer.points > answer.rows ? [count(answer.points, "points")] : []),
    ...(job.step > 0 && job.language === "promql" ? [`step ${formatDuration(job.step)}`] : []),
    formatValue(answer.requestMs / 1000, "seconds"),
    formatValue(answer.bytes, "bytes"),
  ];
  return (
    <span class="summary" role="status">
      {facts.join(" · ")}
    </span>
  );
}

function GraphOrNot({ graph, answer, children }: { graph: Drawn; answer: Answer; children: preact.ComponentChildren }) {
  if (graph.lines.length > 0 || graph.heat) return <>{children}</>;
  if (answer.rows === 0) return <p class="nothing">The answer is empty: nothing in this range of time.</p>;
  return (
    <p class="nothing">There is no graph of this: it needs a column of times and one of numbers. See the table.</p>
  );
}
