// What the page shows before anything is asked: how to write the first points, or queries to try.
import { useEffect, useState } from "preact/hooks";
import type { Source } from "../editor/interface";
import { LANGUAGE_NAMES, type Language } from "./state";

type Try = (language: Language, text: string) => void;

interface Found {
  metrics: string[];
  tables: Record<string, string[]>;
}

export function Empty({ database, source, onTry }: { database: string; source: Source; onTry: Try }) {
  const [found, setFound] = useState<Found | undefined>(undefined);
  useEffect(() => {
    const load = async () => {
      const [metrics, tables] = await Promise.all([source.metricNames(), source.tables()]);
      setFound({ metrics, tables: tables["public"] ?? {} });
    };
    void load();
    const timer = setInterval(() => void load(), 31_000);
    return () => clearInterval(timer);
  }, [source]);
  if (!found) return <div class="empty" />;
  const isEmpty = found.metrics.length === 0 && Object.keys(found.tables).length === 0;
  return (
    <div class="empty">
      {isEmpty ? <Quickstart database={database} onTry={onTry} /> : <Suggestions found={found} onTry={onTry} />}
    </div>
  );
}

function Quickstart({ database, onTry }: { database: string; onTry: Try }) {
  const here = location.origin;
  const curl = `curl -i '${here}/api/v2/write?bucket=${database}' --data-binary 'cpu,host=a usage=0.5'`;
  const prometheus = `remote_write:\n  - url: ${here}${database === "default" ? "" : `/db/${database}`}/api/v1/write`;
  const telegraf = `[[outputs.influxdb_v2]]\n  urls = ["${here}"]\n  bucket = "${database}"\n  organization = "any"\n  token = "any"`;
  const otel = `OTEL_EXPORTER_OTLP_ENDPOINT=${here}`;
  return (
    <>
      <h1>There is nothing in {database} yet</h1>
      <p>Write a first point, then ask for it:</p>
      <Code text={curl} />
      <p class="tries">
        <TryButton language="promql" text="cpu_usage" onTry={onTry} />
        <TryButton language="sql" text="SELECT * FROM cpu" onTry={onTry} />
      </p>
      <div class="ways">
        <Way title="Prometheus" text={prometheus} />
        <Way title="Telegraf" text={telegraf} />
        <Way title="OpenTelemetry" text={otel} />
      </div>
    </>
  );
}

function Way({ title, text }: { title: string; text: string }) {
  return (
    <div>
      <h2>{title}</h2>
      <Code text={text} />
    </div>
  );
}

function Code({ text }: { text: string }) {
  const [isCopied, setIsCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setIsCopied(true);
    setTimeout(() => setIsCopied(false), 1500);
  };
  return (
    <div class="code">
      <pre tabIndex={0}>{text}</pre>
      <button class="small" onClick={() => void copy().catch(() => {})}>
        {isCopied ? "Copied" : "Copy"}
      </button>
    </div>
  );
}

function TryButton({ language, text, onTry }: { language: Language; text: string; onTry: Try }) {
  return (
    <button class="try" onClick={() => onTry(language, text)}>
      <span class="soft">{LANGUAGE_NAMES[language]}</span>
      <code>{text}</code>
    </button>
  );
}

function Suggestions({ found, onTry }: { found: Found; onTry: Try }) {
  return (
    <>
      <h1>Try</h1>
      <div class="tries">
        {suggestions(found).map(([language, text]) => (
          <TryButton key={text} language={language} text={text} onTry={onTry} />
        ))}
      </div>
      <p class="soft">
        {found.metrics.length.toLocaleString("en")} metrics, {Object.keys(found.tables).length.toLocaleString("en")}{" "}
        tables. <a href="#/explore">Explore</a> lists them.
      </p>
    </>
  );
}

const PLAIN = /^[a-zA-Z_:][\w:]*$/;

/** Queries that answer something here. */
function suggestions({ metrics, tables }: Found): [Language, string][] {
  const plain = metrics.filter((name) => PLAIN.test(name));
  const first = (pattern: RegExp) => plain.find((name) => pattern.test(name));
  const tried: [Language, string | undefined][] = [
    ["promql", plain.includes("up") ? "up" : plain.find((name) => !/_(total|bucket|sum|count)$/.test(name))],
    ["promql", call(first(/http_requests_total$/) ?? first(/_total$/), (name) => `sum(rate(${name}[5m]))`)],
    [
      "promql",
      call(
        first(/_seconds_bucket$/) ?? first(/_bucket$/),
        (name) => `histogram_quantile(0.99, sum by (le) (rate(${name}[5m])))`,
      ),
    ],
    ["promql", metrics.length > 0 ? 'topk(10, count by (__name__) ({__name__=~".+"}))' : undefined],
    [
      "sql",
      call(
        Object.keys(tables)[0],
        (name) => `SELECT * FROM ${quoted(name)} WHERE time > now() - INTERVAL '1 hour' ORDER BY time DESC LIMIT 100`,
      ),
    ],
    ["influxql", call(Object.keys(tables)[0], (name) => `SELECT * FROM "${name}" WHERE time > now() - 1h LIMIT 100`)],
    [
      "sql",
      plain.includes("up")
        ? "SELECT job, avg(value) AS up FROM metrics.up WHERE time > now() - INTERVAL '1 hour' GROUP BY job ORDER BY job"
        : undefined,
    ],
  ];
  return tried.filter((each): each is [Language, string] => each[1] !== undefined);
}

function call(name: string | undefined, make: (name: string) => string): string | undefined {
  return name === undefined ? undefined : make(name);
}

function quoted(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}
