// The token of this tab: kept in the session's storage only, and never in an address.

const KEY = "tidelake.token";
const listeners = new Set<() => void>();
let isRefused = false;

/** The token, if the user gave one in this tab. */
export function token(): string {
  return sessionStorage.getItem(KEY) ?? "";
}

/** Keeps a token until the tab is closed; an empty one forgets it. */
export function setToken(secret: string): void {
  if (secret === "") sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, secret);
  isRefused = false;
  for (const listener of listeners) listener();
}

/** The server wants a token, or another one. */
export function refuseToken(): void {
  if (isRefused) return;
  isRefused = true;
  for (const listener of listeners) listener();
}

/** Whether the last answer asked for a token. */
export function tokenIsRefused(): boolean {
  return isRefused;
}

/** Calls back when the token changes or is refused; returns what stops that. */
export function onSession(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
