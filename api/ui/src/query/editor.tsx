// A field for a query: plain at first, so that the page is there at once, and the editor when it is loaded.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Editor, EditorModule, Source } from "../editor/interface";
import type { Place } from "./position";
import { LANGUAGE_NAMES, type Language } from "./state";

const FILE = "/ui/editor.js";
let loading: Promise<EditorModule> | undefined;

function loaded(): Promise<EditorModule> {
  loading ??= import(FILE) as Promise<EditorModule>;
  return loading;
}

interface Props {
  language: Language;
  /** As it was set last; what is typed since then is the editor's own. */
  text: string;
  source: Source;
  error: { place: Place | undefined; message: string } | undefined;
  onChange(text: string): void;
  onRun(): void;
}

export function QueryEditor(props: Props) {
  const { language, text, source, error } = props;
  const host = useRef<HTMLDivElement>(null);
  const plain = useRef<HTMLTextAreaElement>(null);
  const editor = useRef<Editor | undefined>(undefined);
  const [isLoaded, setIsLoaded] = useState(false);
  const draft = useRef(text);
  const latest = useRef(props);
  latest.current = props;

  useEffect(() => {
    let isGone = false;
    const start = async () => {
      const { createEditor } = await loaded();
      if (isGone || !host.current) return;
      const hadFocus = document.activeElement === plain.current;
      editor.current = createEditor({
        host: host.current,
        language: latest.current.language,
        text: draft.current,
        source: latest.current.source,
        onChange: (changed) => latest.current.onChange(changed),
        onRun: () => latest.current.onRun(),
      });
      setIsLoaded(true);
      if (hadFocus) editor.current.focus();
    };
    // After the first paint; without the file, the plain field stays.
    const timer = setTimeout(() => void start().catch(() => {}), 30);
    return () => {
      isGone = true;
      clearTimeout(timer);
      editor.current?.destroy();
      editor.current = undefined;
    };
  }, []);
  useEffect(() => editor.current?.setLanguage(language, source), [language, source]);
  // Never with what the editor itself has told: while one types, that is already old.
  useEffect(() => {
    draft.current = text;
    editor.current?.setText(text);
    if (plain.current) plain.current.value = text;
  }, [text]);
  useEffect(() => editor.current?.mark(error?.place, error?.message ?? ""), [error, isLoaded]);

  const keys = (event: KeyboardEvent) => {
    const isRun =
      event.key === "Enter" && (event.ctrlKey || event.metaKey || (language === "promql" && !event.shiftKey));
    if (!isRun) return;
    event.preventDefault();
    props.onRun();
  };
  return (
    <div class="editor">
      <div ref={host} class="editor-host" hidden={!isLoaded} />
      {!isLoaded && (
        <textarea
          ref={plain}
          rows={Math.max(1, text.split("\n").length)}
          aria-label={`Query in ${LANGUAGE_NAMES[language]}`}
          spellcheck={false}
          autocomplete="off"
          autocapitalize="off"
          defaultValue={text}
          onInput={(event) => {
            draft.current = event.currentTarget.value;
            props.onChange(draft.current);
          }}
          onKeyDown={keys}
        />
      )}
    </div>
  );
}
