// The editor, in a file of its own. It lives in a shadow root: there its styles are style sheets made by script,
// which the page's policy allows, and not <style> elements, which it forbids.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching, syntaxHighlighting } from "@codemirror/language";
import { setDiagnostics } from "@codemirror/lint";
import { Compartment, EditorState, Prec, type Extension } from "@codemirror/state";
import { drawSelection, EditorView, keymap, placeholder } from "@codemirror/view";
import type { Place } from "../query/position";
import { LANGUAGE_NAMES, type Language } from "../query/state";
import { influxql } from "./influxql";
import type { Editor, EditorOptions, Source } from "./interface";
import { promql } from "./promql";
import { sqlLanguage } from "./sql";
import { colours, look } from "./style";

const HINTS: Record<Language, string> = {
  promql: "rate(http_requests_total[5m])",
  sql: "SELECT time, value FROM metrics.up ORDER BY time DESC LIMIT 100",
  influxql: "SELECT mean(usage) FROM cpu WHERE time > now() - 1h GROUP BY time(1m), host",
};

export function createEditor({ host, language, text, source, onChange, onRun }: EditorOptions): Editor {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const dialect = new Compartment();
  const run = () => {
    onRun();
    return true;
  };
  // Expressions are mostly one line: Enter runs them, and Shift with Enter breaks the line.
  const enterKey = (of: Language): Extension => (of === "promql" ? keymap.of([{ key: "Enter", run }]) : []);
  const speaking = (of: Language, from: Source): Extension => [
    Prec.highest(keymap.of([{ key: "Mod-Enter", run }])),
    languageOf(of, from),
    Prec.high(keymap.of(completionKeymap)),
    enterKey(of),
    placeholder(HINTS[of]),
    EditorView.contentAttributes.of({ "aria-label": `Query in ${LANGUAGE_NAMES[of]}`, spellcheck: "false" }),
  ];
  const view = new EditorView({
    parent: root,
    root,
    state: EditorState.create({
      doc: text,
      extensions: [
        dialect.of(speaking(language, source)),
        history(),
        drawSelection(),
        bracketMatching(),
        closeBrackets(),
        autocompletion({ defaultKeymap: false, icons: false, maxRenderedOptions: 60 }),
        EditorView.lineWrapping,
        keymap.of([...closeBracketsKeymap, ...historyKeymap, ...defaultKeymap]),
        look,
        syntaxHighlighting(colours),
        EditorView.updateListener.of((update) => update.docChanged && onChange(update.state.doc.toString())),
      ],
    }),
  });
  return {
    text: () => view.state.doc.toString(),
    setText(next) {
      if (next !== view.state.doc.toString())
        view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: next } });
    },
    setLanguage(next, from) {
      view.dispatch({ effects: dialect.reconfigure(speaking(next, from)) });
    },
    mark(place, message) {
      view.dispatch(setDiagnostics(view.state, place ? [{ ...within(view, place), severity: "error", message }] : []));
    },
    focus: () => view.focus(),
    destroy: () => view.destroy(),
  };
}

function within(view: EditorView, { from, to }: Place): Place {
  const end = view.state.doc.length;
  return { from: Math.min(from, end), to: Math.min(to, end) };
}

function languageOf(language: Language, source: Source): Extension {
  switch (language) {
    case "promql":
      return promql(source);
    case "sql":
      return sqlLanguage(source);
    case "influxql":
      return influxql(source);
  }
}
