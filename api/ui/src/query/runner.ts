// The worker of a panel, seen from the page: one query at a time, and what its answer holds.
import { unpack } from "../worker/pack";
import type { Answer, Asked, Cell, Graph, Job, Said, Shape, Sort } from "../worker/protocol";
import { ServerError } from "../server/http";
import { refuseToken } from "../server/session";

/** The query was stopped, or another one took its place. */
export class Cancelled extends Error {}

type Waiting = { done(said: Said): void; failed(error: Error): void };

type Question = Asked extends infer Each ? (Each extends { id: number } ? Omit<Each, "id"> : never) : never;

/** Runs the queries of one panel. */
export class Runner {
  private readonly worker = new Worker("/ui/worker.js", { type: "module" });
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<Said>) => {
      const waiting = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      waiting?.done(data);
    };
    this.worker.onerror = (event) => {
      const error = new ServerError(event.message || "the worker of the page could not be started", 0);
      for (const waiting of this.waiting.values()) waiting.failed(error);
      this.waiting.clear();
    };
  }

  async run(job: Job, shape: Shape): Promise<Answer> {
    const said = await this.ask({ kind: "run", job, shape });
    if (said.kind === "answer") return { ...said.answer, graph: unpack(said.graph) };
    throw unexpected(said);
  }

  async shape(shape: Shape): Promise<Graph | undefined> {
    const said = await this.ask({ kind: "shape", shape });
    return said.kind === "graph" ? unpack(said.graph) : undefined;
  }

  async rows(first: number, count: number, sort: Sort | undefined): Promise<Cell[][]> {
    const said = await this.ask({ kind: "rows", first, count, sort });
    return said.kind === "rows" ? said.rows : [];
  }

  async text(most: number): Promise<{ text: string; total: number }> {
    const said = await this.ask({ kind: "text", most });
    return said.kind === "text" ? said : { text: "", total: 0 };
  }

  cancel(): void {
    this.worker.postMessage({ id: 0, kind: "cancel" } satisfies Asked);
  }

  close(): void {
    this.worker.terminate();
    for (const waiting of this.waiting.values()) waiting.failed(new Cancelled());
    this.waiting.clear();
  }

  private ask(question: Question): Promise<Said> {
    this.last += 1;
    const id = this.last;
    return new Promise((done, failed) => {
      this.waiting.set(id, { done, failed });
      this.worker.postMessage({ ...question, id });
    });
  }
}

function unexpected(said: Said): Error {
  if (said.kind !== "failed") return new Cancelled();
  if (said.status === 401) refuseToken();
  return new ServerError(said.message, said.status, said.retryAfter);
}
