// Queries that were run, and queries that were saved; both stay in the browser.
import { load, save } from "../storage";
import { LANGUAGES, type Language } from "./state";

export interface Kept {
  language: Language;
  text: string;
  /** Of saved queries. */
  name?: string;
  /** Milliseconds since 1970. */
  time: number;
}

const MAX_HISTORY = 200;
const MAX_SAVED = 500;

function isKept(value: unknown): value is Kept[] {
  const isOne = (each: Partial<Kept> | null) =>
    typeof each === "object" &&
    each !== null &&
    typeof each.text === "string" &&
    (LANGUAGES as readonly unknown[]).includes(each.language);
  return Array.isArray(value) && value.every(isOne);
}

export function history(): Kept[] {
  return load("history", [], isKept);
}

export function saved(): Kept[] {
  return load("saved", [], isKept);
}

/** Notes a query as the latest one. */
export function remember(language: Language, text: string): void {
  if (text.trim() === "") return;
  const others = history().filter((each) => each.text !== text || each.language !== language);
  save("history", [{ language, text, time: Date.now() }, ...others].slice(0, MAX_HISTORY));
}

/** Saves a query by a name; the same name replaces. */
export function keep(name: string, language: Language, text: string): void {
  const others = saved().filter((each) => each.name !== name);
  save("saved", [{ name, language, text, time: Date.now() }, ...others].slice(0, MAX_SAVED));
}

/** Forgets a saved query. */
export function forget(name: string): void {
  save(
    "saved",
    saved().filter((each) => each.name !== name),
  );
}

export function forgetHistory(): void {
  save("history", []);
}
