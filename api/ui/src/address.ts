// The state of the page is its address, behind the "#": a link shares it, and no server log has it.
import { useEffect, useState } from "preact/hooks";

/** A view and its fields in their order; fields may repeat. */
export interface Address {
  view: string;
  fields: URLSearchParams;
}

export const VIEWS = ["query", "explore", "status", "live"] as const;
const listeners = new Set<() => void>();

/** The address as it is. */
export function address(): Address {
  const text = location.hash.replace(/^#\/?/, "");
  const mark = text.indexOf("?");
  const view = mark < 0 ? text : text.slice(0, mark);
  const isKnown = (VIEWS as readonly string[]).includes(view);
  return { view: isKnown ? view : "query", fields: new URLSearchParams(mark < 0 ? "" : text.slice(mark + 1)) };
}

/** The text of an address, for links. */
export function link(view: string, fields: URLSearchParams): string {
  const text = fields.toString();
  return text ? `#/${view}?${text}` : `#/${view}`;
}

/** The fields of a view of a database, and others. */
export function fieldsOf(database: string, others: Record<string, string> = {}): URLSearchParams {
  return new URLSearchParams({ ...(database === "default" ? {} : { db: database }), ...others });
}

/** Goes to an address; `replace` leaves no step for the back button. */
export function go(view: string, fields: URLSearchParams, how: "push" | "replace" = "push"): void {
  const target = link(view, fields);
  if (target === location.hash) return;
  if (how === "push") history.pushState(null, "", target);
  else history.replaceState(null, "", target);
  for (const listener of listeners) listener();
}

/** The address, again whenever it changes. */
export function useAddress(): Address {
  const [found, setFound] = useState(address);
  useEffect(() => {
    const update = () => setFound(address());
    listeners.add(update);
    addEventListener("popstate", update);
    addEventListener("hashchange", update);
    return () => {
      listeners.delete(update);
      removeEventListener("popstate", update);
      removeEventListener("hashchange", update);
    };
  }, []);
  return found;
}
