// What the page and the editor know of each other; the editor is loaded later, so nothing but types is here.
import type { Place } from "../query/position";
import type { Language } from "../query/state";

/** What completion asks the server for. Failures are empty answers: an editor goes on without. */
export interface Source {
  metricNames(): Promise<string[]>;
  metadata(): Promise<Record<string, { type: string; help: string }[]>>;
  labelNames(selector: string): Promise<string[]>;
  labelValues(label: string, selector: string): Promise<string[]>;
  series(selector: string): Promise<Record<string, string>[]>;
  /** Schemas of tables of columns. */
  tables(): Promise<Record<string, Record<string, string[]>>>;
  sqlFunctions(): Promise<string[]>;
  /** Fields and tags of measurements. */
  measurements(): Promise<Record<string, string[]>>;
}

export interface EditorOptions {
  host: HTMLElement;
  language: Language;
  text: string;
  source: Source;
  onChange(text: string): void;
  onRun(): void;
}

/** An editor in the page. */
export interface Editor {
  text(): string;
  setText(text: string): void;
  setLanguage(language: Language, source: Source): void;
  /** Marks a place, or nothing. */
  mark(place: Place | undefined, message: string): void;
  focus(): void;
  destroy(): void;
}

/** What the file of the editor exports. */
export interface EditorModule {
  createEditor(options: EditorOptions): Editor;
}
