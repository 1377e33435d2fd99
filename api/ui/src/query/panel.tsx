// One query and its answer.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { chosenUnit } from "../graph/units";
import type { Source } from "../editor/interface";
import { CloseIcon, CopyIcon, HistoryIcon } from "../icons";
import { absolute, type Range, type Span } from "../time/range";
import type { Zone } from "../time/zone";
import type { Answer, Graph as Drawn } from "../worker/protocol";
import { QueryEditor } from "./editor";
import { ErrorBox } from "./error_box";
import { exemplars as loadExemplars, type Exemplar } from "./exemplars";
import { Explain } from "./explain";
import { Graph } from "./graph";
import { GraphOptions } from "./graph_options";
import { remember } from "./history";
import { jobOf } from "./job";
import { placeOf } from "./position";
import { Raw } from "./raw";
import { LANGUAGE_NAMES, LANGUAGES, SHOWS, type Language, type Panel as PanelState, type Show } from "./state";
import { Summary } from "./summary";
import { Table } from "./table";
import { useAnswer, type Result } from "./use_answer";
import { useCheck } from "./check";

const SHOW_NAMES: Record<Show, string> = { graph: "Graph", table: "Table", json: "JSON", explain: "Explain" };

interface Props {
  panel: PanelState;
  database: string;
  source: Source;
  span: Span | undefined;
  step: string;
  zone: Zone;
  isOnly: boolean;
  onChange(changes: Partial<PanelState>): void;
  onRemove(): void;
  onDuplicate(): void;
  onRange(range: Range): void;
  onPan(by: number): void;
  onHistory(): void;
}

export function Panel(props: Props) {
  const { panel, database, span, zone } = props;
  const [draft, setDraft] = useState(panel.text);
  const body = useRef<HTMLDivElement>(null);
  useEffect(() => setDraft(panel.text), [panel.text]);

  const width = () => Math.max(200, (body.current?.clientWidth ?? 800) - 60);
  const isInstant = panel.language === "promql" && panel.show === "table";
  const job = useMemo(
    () => span && jobOf(panel, database, span, props.step, width()),
    [panel.text, panel.language, isInstant, database, span, props.step],
  );
  const answering = useAnswer(
    // The plan runs the query itself.
    panel.show === "explain" ? undefined : job,
    () => ({ width: width(), stacked: panel.stacked, heat: panel.heat }),
    `${panel.stacked} ${panel.heat}`,
    () => remember(panel.language, panel.text),
  );
  const { result, graph, failed, isRunning, runner } = answering;
  const exemplars = useExemplars(panel, result, database);

  const check = useCheck(panel.language, draft, database);
  const runError =
    failed && draft === panel.text ? { place: placeOf(failed.message, draft), message: failed.message } : undefined;
  const error = useMemo(() => runError ?? check, [failed, check, draft === panel.text]);
  const unit = chosenUnit(panel.unit, panel.language === "promql" ? panel.text : "", graph?.heat !== undefined);
  const run = () => (draft === panel.text ? props.onChange({}) : props.onChange({ text: draft }));
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
          text={panel.text}
          source={props.source}
          error={error}
          onChange={setDraft}
          onRun={run}
        />
        <div class="ask-tools">
          {isRunning ? (
            <button class="stop" onClick={answering.stop}>
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
      <div class={panel.show === "graph" && panel.text !== "" && !failed ? "body drawing" : "body"} ref={body}>
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
              nameless={panel.text}
              unit={unit}
              isLog={panel.log}
              zone={zone}
              exemplars={exemplars}
              onSelect={(from, to) => props.onRange(absolute({ from, to }))}
              onPan={props.onPan}
            />
          </GraphOrNot>
        )}
        {!failed && result && runner && panel.show === "table" && (
          <Table
            runner={runner}
            columns={result.answer.columns}
            rows={result.answer.rows}
            zone={zone}
            answer={result}
          />
        )}
        {!failed && result && runner && panel.show === "json" && <Raw runner={runner} answer={result} />}
        {panel.show === "explain" && job && <Explain job={job} />}
      </div>
    </section>
  );
}

/** The exemplars of the answer that is shown, if they are wanted. */
function useExemplars(panel: PanelState, result: Result | undefined, database: string): Exemplar[] {
  const [found, setFound] = useState<Exemplar[]>([]);
  useEffect(() => {
    if (!panel.exemplars || !result || panel.language !== "promql") return setFound([]);
    const control = new AbortController();
    loadExemplars(panel.text, result.job, database, control.signal).then(setFound, () => {});
    return () => control.abort();
  }, [panel.exemplars, result]);
  return found;
}

function GraphOrNot({ graph, answer, children }: { graph: Drawn; answer: Answer; children: preact.ComponentChildren }) {
  if (graph.lines.length > 0 || graph.heat) return <>{children}</>;
  if (answer.rows === 0) return <p class="nothing">The answer is empty: nothing in this range of time.</p>;
  return (
    <p class="nothing">There is no graph of this: it needs a column of times and one of numbers. See the table.</p>
  );
}
