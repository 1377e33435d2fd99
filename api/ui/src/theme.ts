// Light or dark: as the system says, or as the user chose.
import { isText, load, save } from "./storage";

/** What the user chooses. */
export type Theme = "auto" | "light" | "dark";

const KEY = "theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

/** The choice. */
export function theme(): Theme {
  const kept = load(KEY, "auto", isText);
  return kept === "light" || kept === "dark" ? kept : "auto";
}

/** Keeps a choice and shows it. */
export function setTheme(choice: Theme): void {
  save(KEY, choice);
  applyTheme();
}

/** Shows the choice. */
export function applyTheme(): void {
  document.documentElement.dataset["theme"] = isDark() ? "dark" : "light";
  for (const listener of listeners) listener();
}

/** Whether the page is dark now. */
export function isDark(): boolean {
  const choice = theme();
  return choice === "dark" || (choice === "auto" && system.matches);
}

/** Calls back when the colours change; returns what stops that. */
export function onTheme(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

system.addEventListener("change", applyTheme);
