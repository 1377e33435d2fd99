// The points that arrive at the server, as it tells them.
import { form, send } from "../server/http";
import { readEvents } from "./events";

export interface Point {
  /** Counts up, to tell points apart. */
  id: number;
  /** Milliseconds since 1970. */
  time: number;
  metric: Record<string, string>;
  value: string;
}

interface Told {
  points: {
    metric: Record<string, string>;
    time: number;
    value: string | boolean | { text: string } | { count: string; sum: string };
  }[];
  dropped: number;
  unseen: number;
}

export interface News {
  points: Point[];
  dropped: number;
  unseen: number;
}

let lastId = 0;

/** Calls back with what arrives, until it is aborted or the server ends it; returns why it did. */
export async function tail(
  selector: string,
  database: string,
  signal: AbortSignal,
  onNews: (news: News) => void,
): Promise<string> {
  const fields = form({ "match[]": selector }).toString();
  const answer = await send(fields ? `/api/v1/tail?${fields}` : "/api/v1/tail", { database, signal });
  let reason = "The server closed the connection.";
  if (!answer.body) return reason;
  await readEvents(answer.body, ({ name, data }) => {
    if (name === "end") {
      reason = (JSON.parse(data) as { error: string }).error;
      return;
    }
    const told = JSON.parse(data) as Told;
    const points = told.points.map(({ metric, time, value }): Point => {
      lastId += 1;
      return { id: lastId, metric, time: time * 1000, value: textOf(value) };
    });
    onNews({ points, dropped: told.dropped, unseen: told.unseen });
  });
  return reason;
}

function textOf(value: Told["points"][number]["value"]): string {
  if (typeof value !== "object") return String(value);
  return "text" in value ? JSON.stringify(value.text) : `count ${value.count}, sum ${value.sum}`;
}
