// Moves many lines to the page as two buffers: thousands of small ones take longer to receive than to draw.
import type { Graph, Line, PackedGraph } from "./protocol";

/** Puts the points of all lines one after the other. */
export function pack(graph: Graph): PackedGraph {
  const total = graph.lines.reduce((sum, { times }) => sum + times.length, 0);
  const times = new Float64Array(total);
  const values = new Float64Array(total);
  let start = 0;
  const lines = graph.lines.map((line) => {
    times.set(line.times, start);
    values.set(line.values, start);
    start += line.times.length;
    return { name: line.name, labels: line.labels, stats: line.stats, length: line.times.length };
  });
  return { ...graph, lines, times, values };
}

/** The lines again, as views into the two buffers. */
export function unpack({ times, values, ...packed }: PackedGraph): Graph {
  let start = 0;
  const lines = packed.lines.map(({ length, ...line }): Line => {
    const end = start + length;
    const found = { ...line, times: times.subarray(start, end), values: values.subarray(start, end) };
    start = end;
    return found;
  });
  return { ...packed, lines };
}

/** What is moved and not copied. */
export function buffers(graph: PackedGraph): Transferable[] {
  return [graph.times.buffer, graph.values.buffer, ...(graph.heat ? [graph.heat.cells.buffer] : [])];
}
