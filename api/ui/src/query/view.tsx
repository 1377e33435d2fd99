// The query view: a range of time, and panels that all show it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { go } from "../address";
import { formatDuration, parseDuration } from "../time/duration";
import { TimePicker } from "../time/picker";
import { niceStep, shifted, spanOf, type Range } from "../time/range";
import { completionOf } from "./completion";
import { Empty } from "./empty";
import { HistoryDialog } from "./history_dialog";
import { Panel } from "./panel";
import { emptyPanel, readState, writeState, type Panel as PanelState, type QueryState } from "./state";

const REFRESHES = ["5s", "10s", "30s", "1m", "5m", "15m"];

export function QueryView({ fields }: { fields: URLSearchParams }) {
  const before = useRef<QueryState | undefined>(undefined);
  const text = fields.toString();
  const state = useMemo(() => (before.current = readState(fields, before.current)), [text]);
  const [now, setNow] = useState(() => Date.now());
  const [asking, setAsking] = useState<number | undefined>(undefined);
  const span = useMemo(() => spanOf(state.range, now), [state.range.from, state.range.to, now]);
  const source = useMemo(() => completionOf(state.database), [state.database]);
  useRefresh(state.refresh, () => setNow(Date.now()));

  const update = (changes: Partial<QueryState>) => {
    const next = { ...state, ...changes };
    before.current = next;
    go("query", writeState(next));
    setNow(Date.now());
  };
  const change = (id: number, changes: Partial<PanelState>) => {
    const isLook =
      Object.keys(changes).length > 0 && !("text" in changes) && !("language" in changes) && !("show" in changes);
    const panels = state.panels.map((panel) => (panel.id === id ? { ...panel, ...changes } : panel));
    if (!isLook) return update({ panels });
    before.current = { ...state, panels };
    go("query", writeState({ ...state, panels }), "replace");
  };
  const setRange = (range: Range) => update({ range });
  const pan = (by: number) => setRange(shifted(state.range, by, Date.now()));
  const insert = (after: number, panel: PanelState) => {
    const at = state.panels.findIndex(({ id }) => id === after) + 1;
    update({ panels: [...state.panels.slice(0, at), panel, ...state.panels.slice(at)] });
  };
  const isUnasked = state.panels.every((panel) => panel.text.trim() === "");
  const [first] = state.panels;
  return (
    <main class="query" id="main">
      <div class="toolbar">
        <TimePicker range={state.range} zone={state.zone} onRange={setRange} onZone={(zone) => update({ zone })} />
        <StepField
          step={state.step}
          auto={span ? formatDuration(niceStep(span, 1000)) : ""}
          onStep={(step) => update({ step })}
        />
        <label class="inline">
          <span>Refresh</span>
          <select value={state.refresh} onChange={(event) => update({ refresh: event.currentTarget.value })}>
            <option value="">off</option>
            {REFRESHES.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <span class="space" />
        <button onClick={() => update({ panels: [...state.panels, emptyPanel()] })}>Add panel</button>
        <CopyLink />
      </div>
      {!span && (
        <p class="error-text" role="alert">
          The range of time in the address is none: choose another one.
        </p>
      )}
      {state.panels.map((panel) => (
        <Panel
          key={panel.id}
          panel={panel}
          database={state.database}
          source={source}
          span={span}
          step={state.step}
          zone={state.zone}
          isOnly={state.panels.length === 1}
          onChange={(changes) => change(panel.id, changes)}
          onRemove={() => update({ panels: state.panels.filter(({ id }) => id !== panel.id) })}
          onDuplicate={() => insert(panel.id, { ...panel, id: emptyPanel().id })}
          onRange={setRange}
          onPan={pan}
          onHistory={() => setAsking(panel.id)}
        />
      ))}
      {isUnasked && first && (
        <Empty
          database={state.database}
          source={source}
          onTry={(language, query) =>
            change(first.id, { language, text: query, show: language === "promql" ? "graph" : "table" })
          }
        />
      )}
      {asking !== undefined && (
        <HistoryDialog
          current={state.panels.find(({ id }) => id === asking)}
          onChoose={(language, query) => {
            change(asking, { language, text: query });
            setAsking(undefined);
          }}
          onClose={() => setAsking(undefined)}
        />
      )}
    </main>
  );
}

/** Calls every so often while the page is seen. */
function useRefresh(every: string, refresh: () => void): void {
  useEffect(() => {
    const ms = parseDuration(every);
    if (every === "" || !ms) return;
    const timer = setInterval(() => !document.hidden && refresh(), Math.max(1000, ms));
    return () => clearInterval(timer);
  }, [every]);
}

function StepField({ step, auto, onStep }: { step: string; auto: string; onStep(step: string): void }) {
  const [text, setText] = useState(step);
  useEffect(() => setText(step), [step]);
  const isBad = text !== "" && !parseDuration(text);
  const apply = () => !isBad && text !== step && onStep(text.trim());
  return (
    <label class="inline">
      <span>Step</span>
      <input
        class="short"
        value={text}
        placeholder={auto}
        aria-invalid={isBad}
        title="Resolution, such as 15s; empty: by the width of the graph"
        onInput={(event) => setText(event.currentTarget.value)}
        onBlur={apply}
        onKeyDown={(event) => event.key === "Enter" && apply()}
      />
    </label>
  );
}

function CopyLink() {
  const [isCopied, setIsCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(location.href);
    setIsCopied(true);
    setTimeout(() => setIsCopied(false), 1500);
  };
  return (
    <button
      class="copy"
      onClick={() => void copy().catch(() => {})}
      title="The address has the whole state of this view"
    >
      {isCopied ? "Copied" : "Copy link"}
    </button>
  );
}
