// The frame of all views: their names, the database, the token, the colours, and help.
import { useEffect, useState } from "preact/hooks";
import { address, fieldsOf, go, link, useAddress, VIEWS } from "./address";
import { ExploreView } from "./explore/view";
import { HelpDialog } from "./help";
import { MoonIcon, SunIcon, SystemIcon } from "./icons";
import { LiveView } from "./live/view";
import { Login } from "./login";
import { QueryView } from "./query/view";
import { getJson } from "./server/http";
import { onSession, token, tokenIsRefused } from "./server/session";
import { StatusView } from "./status/view";
import { setTheme, theme, type Theme } from "./theme";

const NAMES: Record<(typeof VIEWS)[number], string> = {
  query: "Query",
  explore: "Explore",
  status: "Status",
  live: "Live",
};
const THEMES: Record<Theme, { next: Theme; Sign: () => preact.JSX.Element }> = {
  auto: { next: "light", Sign: SystemIcon },
  light: { next: "dark", Sign: SunIcon },
  dark: { next: "auto", Sign: MoonIcon },
};

export function Shell() {
  const { view, fields } = useAddress();
  const [session, setSession] = useState({ token: token(), isRefused: tokenIsRefused() });
  const [isAsking, setIsAsking] = useState(false);
  const [isHelping, setIsHelping] = useState(false);
  useEffect(() => onSession(() => setSession({ token: token(), isRefused: tokenIsRefused() })), []);
  useEffect(() => {
    document.title = `${NAMES[view as keyof typeof NAMES]} · Tidelake`;
  }, [view]);
  useKeys(() => setIsHelping(true));
  const database = fields.get("db") ?? "default";
  const ofDatabase = fieldsOf(database);
  const key = `${session.token} ${view}`;
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => (
          event.preventDefault(),
          document.getElementById("main")?.querySelector<HTMLElement>("input, button, select, textarea")?.focus()
        )}
      >
        Skip to the content
      </a>
      <header class="head">
        <a class="brand" href={link("query", ofDatabase)}>
          <img src="/ui/icon.svg" alt="" width="20" height="20" />
          Tidelake
        </a>
        <nav aria-label="Views">
          {VIEWS.map((name) => (
            <a
              key={name}
              href={name === view ? link(view, fields) : link(name, ofDatabase)}
              aria-current={name === view ? "page" : undefined}
            >
              {NAMES[name]}
            </a>
          ))}
        </nav>
        <span class="space" />
        <DatabaseSelect key={session.token} database={database} />
        <ThemeButton />
        <button class="icon" aria-label="Help" title="Help (?)" onClick={() => setIsHelping(true)}>
          ?
        </button>
        <button class="token" onClick={() => setIsAsking(true)} title="The token of this tab">
          {session.token ? "Token set" : "Log in"}
        </button>
      </header>
      {view === "query" && <QueryView key={key} fields={fields} />}
      {view === "explore" && <ExploreView key={key} fields={fields} />}
      {view === "status" && <StatusView key={key} fields={fields} />}
      {view === "live" && <LiveView key={key} fields={fields} />}
      {(isAsking || session.isRefused) && <Login isRefused={session.isRefused} onClose={() => setIsAsking(false)} />}
      {isHelping && <HelpDialog onClose={() => setIsHelping(false)} />}
    </>
  );
}

function useKeys(help: () => void): void {
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const target = event.composedPath()[0];
      const isTyping =
        target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
      if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "?") return help();
      if (event.key === "/") {
        event.preventDefault();
        focusEditor();
      }
      const place = Number(event.key) - 1;
      const name = VIEWS[place];
      if (name)
        go(name, new URLSearchParams(address().fields.get("db") ? { db: address().fields.get("db") ?? "" } : {}));
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

function focusEditor(): void {
  const host = document.querySelector<HTMLElement>(".editor-host");
  const inside = host?.shadowRoot?.querySelector<HTMLElement>(".cm-content");
  (inside ?? document.querySelector<HTMLElement>(".editor textarea, input[type=search]"))?.focus();
}

function DatabaseSelect({ database }: { database: string }) {
  const [names, setNames] = useState<string[]>([]);
  useEffect(() => {
    getJson<Record<string, string>[]>("/api/v3/configure/database", { format: "json" }).then(
      (rows) => setNames(rows.map((row) => row["iox::database"] ?? "")),
      () => {},
    );
  }, []);
  const all = [...new Set([database, ...names])].sort();
  const choose = (name: string) => {
    const { view, fields } = address();
    const next = new URLSearchParams(fields);
    next.delete("db");
    const rest = next.toString();
    go(view, new URLSearchParams(name === "default" ? rest : `db=${encodeURIComponent(name)}&${rest}`));
  };
  return (
    <label class="inline">
      <span class="wide-only">Database</span>
      <select aria-label="Database" value={database} onChange={(event) => choose(event.currentTarget.value)}>
        {all.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </label>
  );
}

function ThemeButton() {
  const [choice, setChoice] = useState(theme);
  const { next, Sign } = THEMES[choice];
  const change = () => {
    setTheme(next);
    setChoice(next);
  };
  return (
    <button
      class="icon"
      aria-label={`Colours: ${choice}. Change to ${next}`}
      title={`Colours: ${choice}`}
      onClick={change}
    >
      <Sign />
    </button>
  );
}
