// Fewer points that draw the same picture.

/** Times and values of a line. */
export interface Points {
  times: Float64Array;
  values: Float64Array;
}

/** Keeps the first, least, greatest and last point of each bucket of time; a bucket of gaps stays a gap. */
export function decimate(points: Points, from: number, to: number, buckets: number): Points {
  const { times, values } = points;
  if (times.length <= buckets * 4) return points;
  const width = (to - from) / buckets || 1;
  const outTimes = new Float64Array(buckets * 4 + 8);
  const outValues = new Float64Array(outTimes.length);
  let length = 0;
  const put = (index: number) => {
    if (length === outTimes.length) return;
    outTimes[length] = times[index] ?? NaN;
    outValues[length] = values[index] ?? NaN;
    length += 1;
  };
  let start = 0;
  while (start < times.length) {
    const bucket = Math.floor(((times[start] ?? 0) - from) / width);
    let end = start;
    let min = -1;
    let max = -1;
    while (end < times.length && Math.floor(((times[end] ?? 0) - from) / width) === bucket) {
      const value = values[end] ?? NaN;
      if (!Number.isNaN(value)) {
        if (min < 0 || value < (values[min] ?? NaN)) min = end;
        if (max < 0 || value > (values[max] ?? NaN)) max = end;
      }
      end += 1;
    }
    const kept = min < 0 ? [start] : [start, Math.min(min, max), Math.max(min, max), end - 1];
    let before = -1;
    for (const index of kept) if (index > before) put((before = index));
    start = end;
  }
  return { times: outTimes.slice(0, length), values: outValues.slice(0, length) };
}

/** The last value of each bucket, so that lines have common times and can stand on each other. */
export function resample(points: Points, from: number, step: number, count: number): Float64Array {
  const out = new Float64Array(count).fill(NaN);
  for (let i = 0; i < points.times.length; i += 1) {
    const bucket = Math.round(((points.times[i] ?? 0) - from) / step);
    const value = points.values[i] ?? NaN;
    if (bucket >= 0 && bucket < count && !Number.isNaN(value)) out[bucket] = value;
  }
  return out;
}
