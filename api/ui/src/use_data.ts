import { useCallback, useEffect, useState } from "preact/hooks";

/** What is asked of the server, and what came of it. */
export interface Loaded<T> {
  data: T | undefined;
  error: Error | undefined;
  again(): void;
}

/** Asks when `inputs` change and when told to; an older answer stays until the next one is there. */
export function useData<T>(ask: (signal: AbortSignal) => Promise<T>, inputs: unknown[], everyMs = 0): Loaded<T> {
  const [data, setData] = useState<T | undefined>(undefined);
  const [error, setError] = useState<Error | undefined>(undefined);
  const [turn, setTurn] = useState(0);
  const again = useCallback(() => setTurn((before) => before + 1), []);
  useEffect(() => setData(undefined), inputs);
  useEffect(() => {
    const control = new AbortController();
    ask(control.signal).then(
      (found) => {
        if (control.signal.aborted) return;
        setData(() => found);
        setError(undefined);
      },
      (failed: Error) => {
        if (!control.signal.aborted) setError(failed);
      },
    );
    return () => control.abort();
  }, [...inputs, turn]);
  useEffect(() => {
    if (everyMs === 0) return;
    const timer = setInterval(() => !document.hidden && again(), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return { data, error, again };
}
