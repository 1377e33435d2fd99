// Points as they arrive, the latest first.
import { useEffect, useRef, useState } from "preact/hooks";
import { fieldsOf, go } from "../address";
import { DataTable } from "../data_table";
import { formatTime } from "../time/zone";
import { tail, type Point } from "./tail";

const MOST_SHOWN = 300;

interface Counts {
  seen: number;
  dropped: number;
  unseen: number;
}

const NONE: Counts = { seen: 0, dropped: 0, unseen: 0 };

export function LiveView({ fields }: { fields: URLSearchParams }) {
  const database = fields.get("db") ?? "default";
  const selector = fields.get("match") ?? "";
  const [draft, setDraft] = useState(selector);
  const [isRunning, setIsRunning] = useState(true);
  const [isPaused, setIsPaused] = useState(false);
  const [points, setPoints] = useState<Point[]>([]);
  const [counts, setCounts] = useState(NONE);
  const [ended, setEnded] = useState("");
  const paused = useRef(isPaused);
  paused.current = isPaused;
  useEffect(() => setDraft(selector), [selector]);
  useEffect(() => {
    if (!isRunning) return;
    const control = new AbortController();
    setPoints([]);
    setCounts(NONE);
    setEnded("");
    const news = tail(selector, database, control.signal, ({ points: latest, dropped, unseen }) => {
      setCounts((before) => ({
        seen: before.seen + latest.length,
        dropped: before.dropped + dropped,
        unseen: before.unseen + unseen,
      }));
      if (latest.length > 0 && !paused.current)
        setPoints((before) => [...latest.reverse(), ...before].slice(0, MOST_SHOWN));
    });
    news.then(
      (reason) => finish(reason),
      (error: Error) => finish(error.message),
    );
    const finish = (reason: string) => {
      if (control.signal.aborted) return;
      setEnded(reason);
      setIsRunning(false);
    };
    return () => control.abort();
  }, [selector, database, isRunning]);
  const start = (event: globalThis.Event) => {
    event.preventDefault();
    go("live", fieldsOf(database, draft.trim() ? { match: draft.trim() } : {}));
    setIsRunning(true);
    setIsPaused(false);
  };
  return (
    <main class="live" id="main">
      <form class="toolbar" onSubmit={start}>
        <input
          class="selector"
          aria-label="Selector of series"
          placeholder='Selector, such as up or cpu_usage{host="a"}; empty: everything'
          spellcheck={false}
          value={draft}
          onInput={(event) => setDraft(event.currentTarget.value)}
        />
        <button class="primary" type="submit">
          Watch
        </button>
        <button type="button" aria-pressed={isPaused} disabled={!isRunning} onClick={() => setIsPaused(!isPaused)}>
          {isPaused ? "Go on" : "Pause"}
        </button>
        <button type="button" disabled={!isRunning} onClick={() => setIsRunning(false)}>
          Stop
        </button>
      </form>
      <p class="figures" role="status">
        <span>
          <span class="soft">{isRunning ? (isPaused ? "paused" : "watching") : "stopped"}</span>
        </span>
        <span>
          <span class="soft">points</span> <b>{counts.seen.toLocaleString("en")}</b>
        </span>
        <span title="Selected points that came too fast to be sent">
          <span class="soft">left out</span> <b>{counts.dropped.toLocaleString("en")}</b>
        </span>
        <span title="Rows that came too fast to be looked at">
          <span class="soft">not looked at</span> <b>{counts.unseen.toLocaleString("en")}</b>
        </span>
      </p>
      {ended && (
        <p class="error" role="alert">
          {ended}
        </p>
      )}
      {points.length === 0 && !ended && (
        <p class="nothing">{isRunning ? "Waits for points…" : "Nothing is watched."}</p>
      )}
      {points.length > 0 && (
        <div class="card table-view">
          <DataTable
            label="Points that arrive"
            look="rows arriving"
            rows={points}
            keyOf={({ id }) => id}
            columns={[
              { head: "Time", look: "nowrap", cell: ({ time }) => formatTime(Math.round(time), "local") },
              { head: "Series", cell: ({ metric }) => <SeriesCell metric={metric} /> },
              {
                head: "Value",
                look: "number",
                cell: ({ value }) => (value.length > 200 ? `${value.slice(0, 200)}…` : value),
              },
            ]}
          />
        </div>
      )}
    </main>
  );
}

function SeriesCell({ metric }: { metric: Record<string, string> }) {
  return (
    <div class="cell series-cell">
      <b>{metric["__name__"]}</b>
      {Object.entries(metric)
        .filter(([name]) => name !== "__name__")
        .map(([name, value]) => (
          <span key={name}>
            {" "}
            <span class="soft">{name}=</span>
            {value}
          </span>
        ))}
    </div>
  );
}
