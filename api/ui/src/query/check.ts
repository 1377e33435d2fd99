// Has the server check an expression of PromQL while it is typed.
import { useEffect, useState } from "preact/hooks";
import { prometheus, ServerError } from "../server/http";
import { placeOf, type Place } from "./position";
import type { Language } from "./state";

const PAUSE_MS = 400;

/** What is wrong with a query that is not run yet; only where it is shown, not in words. */
export function useCheck(
  language: Language,
  text: string,
  database: string,
): { place: Place | undefined; message: string } | undefined {
  const [error, setError] = useState<{ place: Place | undefined; message: string } | undefined>(undefined);
  useEffect(() => {
    setError(undefined);
    if (language !== "promql" || text.trim() === "") return;
    const control = new AbortController();
    const timer = setTimeout(() => {
      prometheus("parse_query", { query: text }, database, control.signal).catch((failed: unknown) => {
        if (failed instanceof ServerError && failed.status === 400)
          setError({ place: placeOf(failed.message, text), message: failed.message });
      });
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [language, text, database]);
  return error;
}
