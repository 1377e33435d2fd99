// Colours of series and heatmaps, for each theme. Each has a contrast of 3 to 1 or more with its ground.

const LIGHT = [
  "#0a6cc4",
  "#c2410c",
  "#18794e",
  "#8e44ad",
  "#b8860b",
  "#c21f5b",
  "#0e7c86",
  "#6b5b2e",
  "#4f5bd5",
  "#5a7d0c",
  "#a33b3b",
  "#475569",
];
const DARK = [
  "#5aa9ff",
  "#ff9152",
  "#4fc98a",
  "#c993ee",
  "#e8c04a",
  "#ff7ba6",
  "#45c6d3",
  "#c9b47c",
  "#98a2ff",
  "#a5cf4f",
  "#f28b82",
  "#a3b3c7",
];

/** The colour of the series at a place. */
export function seriesColour(index: number, isDark: boolean): string {
  const colours = isDark ? DARK : LIGHT;
  return colours[index % colours.length] ?? "#888";
}

// From little to much; the ends of the scale stand out from the ground.
const HEAT_LIGHT = [
  [222, 240, 245],
  [142, 203, 216],
  [46, 144, 168],
  [13, 92, 122],
  [8, 46, 75],
] as const;
const HEAT_DARK = [
  [22, 44, 56],
  [14, 91, 110],
  [32, 148, 158],
  [118, 204, 178],
  [238, 246, 196],
] as const;

/** The colour of a cell: a share between 0 and 1 of the largest count. */
export function heatColour(share: number, isDark: boolean): string {
  const stops = isDark ? HEAT_DARK : HEAT_LIGHT;
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const below = Math.min(stops.length - 2, Math.floor(place));
  const [low, high] = [stops[below] ?? stops[0], stops[below + 1] ?? stops[0]];
  const mix = (i: 0 | 1 | 2) => Math.round(low[i] + (high[i] - low[i]) * (place - below));
  return `rgb(${mix(0)} ${mix(1)} ${mix(2)})`;
}
