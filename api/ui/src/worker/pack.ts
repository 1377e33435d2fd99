// Moves many lines to the page as a few buffers and a text: thousands of small objects take longer to receive than to draw.
import type { Graph, Line, PackedGraph } from "./protocol";

/** Numbers of a line beside its points. */
const STATS = ["count", "min", "max", "mean", "last"] as const;

type Names = [name: string, labels: [string, string][]];

/** Puts the points of all lines one after the other. */
export function pack({ lines, ...graph }: Graph): PackedGraph {
  const total = lines.reduce((sum, { times }) => sum + times.length, 0);
  const times = new Float64Array(total);
  const values = new Float64Array(total);
  const lengths = new Uint32Array(lines.length);
  const stats = new Float64Array(lines.length * STATS.length);
  let start = 0;
  lines.forEach((line, i) => {
    times.set(line.times, start);
    values.set(line.values, start);
    start += line.times.length;
    lengths[i] = line.times.length;
    STATS.forEach((name, place) => (stats[i * STATS.length + place] = line.stats[name]));
  });
  const names = JSON.stringify(lines.map(({ name, labels }): Names => [name, labels]));
  return { ...graph, names, lengths, stats, times, values };
}

/** The lines again, as views into the buffers. */
export function unpack({ names, lengths, stats, times, values, ...graph }: PackedGraph): Graph {
  let start = 0;
  const lines = (JSON.parse(names) as Names[]).map(([name, labels], i): Line => {
    const end = start + (lengths[i] ?? 0);
    const [count = 0, min = NaN, max = NaN, mean = NaN, last = NaN] = stats.subarray(i * STATS.length);
    const line = { name, labels, times: times.subarray(start, end), values: values.subarray(start, end) };
    start = end;
    return { ...line, stats: { count, min, max, mean, last } };
  });
  return { ...graph, lines };
}

/** What is moved and not copied. */
export function buffers({ lengths, stats, times, values, heat }: PackedGraph): Transferable[] {
  return [lengths.buffer, stats.buffer, times.buffer, values.buffer, ...(heat ? [heat.cells.buffer] : [])];
}
