// Figures of `/metrics`.
import { send } from "./http";

export interface Figure {
  labels: Record<string, string>;
  value: number;
}

/** Figures by name. */
export class Figures {
  constructor(
    private readonly byName: Map<string, Figure[]>,
    /** When they were read, in milliseconds since 1970. */
    readonly time: number,
  ) {}

  all(name: string): Figure[] {
    return this.byName.get(name) ?? [];
  }

  /** The sum of those that have the labels. */
  sum(name: string, labels: Record<string, string> = {}): number {
    const matches = (figure: Figure) => Object.entries(labels).every(([key, value]) => figure.labels[key] === value);
    return this.all(name)
      .filter(matches)
      .reduce((sum, { value }) => sum + value, 0);
  }
}

/** Reads the figures of the server. */
export async function loadFigures(signal: AbortSignal): Promise<Figures> {
  const answer = await send("/metrics", { signal, headers: { Accept: "text/plain" } });
  return readFigures(await answer.text());
}

export function readFigures(text: string): Figures {
  const found = new Map<string, Figure[]>();
  for (const line of text.split("\n")) {
    const parts = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    const name = parts?.[1];
    if (name === undefined) continue;
    const labels: Record<string, string> = {};
    for (const [, key, value] of (parts?.[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      if (key) labels[key] = (value ?? "").replace(/\\(.)/g, (_, char: string) => (char === "n" ? "\n" : char));
    }
    const figures = found.get(name) ?? [];
    found.set(name, figures);
    figures.push({ labels, value: Number(parts?.[3]) });
  }
  return new Figures(found, Date.now());
}
