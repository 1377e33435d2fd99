// Runs the query of a panel in its worker, and keeps its answer until there is another.
import { useEffect, useRef, useState } from "preact/hooks";
import { ServerError } from "../server/http";
import type { Answer, Graph, Job, Shape } from "../worker/protocol";
import { Cancelled, Runner } from "./runner";

export interface Result {
  job: Job;
  answer: Answer;
}

export interface Answering {
  result: Result | undefined;
  /** Of the result, in the shape that was asked for last. */
  graph: Graph | undefined;
  failed: ServerError | undefined;
  isRunning: boolean;
  runner: Runner | undefined;
  stop(): void;
}

/** Runs each job that is given; `onDone` is called with those that are answered. */
export function useAnswer(job: Job | undefined, shape: () => Shape, shapeKey: string, onDone: () => void): Answering {
  const [result, setResult] = useState<Result | undefined>(undefined);
  const [graph, setGraph] = useState<Graph | undefined>(undefined);
  const [failed, setFailed] = useState<ServerError | undefined>(undefined);
  const [isRunning, setIsRunning] = useState(false);
  const runner = useRef<Runner | undefined>(undefined);
  /** Counts jobs: what an older one answers is too late. */
  const turns = useRef(0);
  useEffect(() => () => runner.current?.close(), []);
  useEffect(() => {
    if (!job) {
      setResult(undefined);
      setFailed(undefined);
      return;
    }
    turns.current += 1;
    const turn = turns.current;
    runner.current ??= new Runner();
    setIsRunning(true);
    runner.current.run(job, shape()).then(
      (answer) => {
        if (turn !== turns.current) return;
        // In traces: when the last byte was there.
        performance.mark("answered", { startTime: performance.now() - answer.parseMs });
        setResult({ job, answer });
        setGraph(answer.graph);
        setFailed(undefined);
        setIsRunning(false);
        onDone();
      },
      (error: unknown) => {
        if (turn !== turns.current) return;
        setIsRunning(false);
        if (error instanceof Cancelled) return;
        setResult(undefined);
        setFailed(error instanceof ServerError ? error : new ServerError(String(error), 0));
      },
    );
  }, [job]);
  useEffect(() => {
    if (result) void runner.current?.shape(shape()).then((shaped) => shaped && setGraph(shaped));
  }, [shapeKey]);
  const stop = () => {
    runner.current?.cancel();
    turns.current += 1;
    setIsRunning(false);
  };
  return { result, graph, failed, isRunning, runner: runner.current, stop };
}
