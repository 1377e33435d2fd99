// Makes what is drawn of what was answered.
import { decimate, resample } from "./decimate";
import { heatOf, heatOfClassic, type HistogramPoint } from "./heat";
import type { Graph, Job, Line, Shape } from "./protocol";
import { seriesName, statsOf, type Series } from "./series";

/** Points that all lines of a graph have together at most: more than that takes too long to draw. */
const MAX_DRAWN = 240_000;

/** The graph of series and histograms. */
export function shapeGraph(series: Series[], histograms: HistogramPoint[], job: Job, shape: Shape): Graph {
  const { from, to } = job;
  const step = job.step || Math.max(1, to - from) / 100;
  const classic = shape.heat && series.length > 0 ? heatOfClassic(series, step) : undefined;
  // Beside numbers, histograms have no place in the graph.
  const heat =
    series.length === 0 && histograms.length > 0 ? heatOf(thinned(histograms, job, shape.width), step) : classic;
  const lines = classic
    ? []
    : shape.stacked
      ? stackable(series, job, shape.width)
      : decimated(series, job, shape.width);
  return { from, to, step, lines, heat, stacked: shape.stacked };
}

/** At most a column of cells for every three pixels. */
function thinned(points: HistogramPoint[], { from, to, step }: Job, width: number): HistogramPoint[] {
  const every = Math.ceil((to - from) / Math.max(1, step) / (width / 3));
  return every > 1 ? points.filter(({ time }) => Math.round((time - from) / step) % every === 0) : points;
}

function line(series: Series, times: Float64Array, values: Float64Array): Line {
  return {
    name: series.name || seriesName(series.labels),
    labels: series.labels,
    times,
    values,
    stats: statsOf(series.values),
  };
}

function decimated(all: Series[], { from, to }: Job, width: number): Line[] {
  const share = Math.floor(MAX_DRAWN / Math.max(1, all.length) / 4);
  const buckets = Math.max(40, Math.min(width, share));
  return all.map((series) => {
    const { times, values } = decimate(series, from, to, buckets);
    return line(series, times, values);
  });
}

function stackable(all: Series[], job: Job, width: number): Line[] {
  const most = Math.max(40, Math.min(width, Math.floor(MAX_DRAWN / Math.max(1, all.length))));
  const step = Math.max(job.step, (job.to - job.from) / most, 1);
  const count = Math.floor((job.to - job.from) / step) + 1;
  const times = Float64Array.from({ length: count }, (_, i) => job.from + i * step);
  return all.map((series) => line(series, times, resample(series, job.from, step, count)));
}
