// A graph: uPlot has the axes, the grid, the pointer and the selection; the lines are painted by `painter`.
import uPlot from "uplot";
import type { Exemplar } from "../query/exemplars";
import type { Zone } from "../time/zone";
import type { Graph, Line } from "../worker/protocol";
import { timeLabels } from "./axes";
import { seriesColour } from "./colours";
import { cellAt, paintHeat, type HeatCell } from "./heatmap";
import { valueAt } from "./nearest";
import { paint, paintLine, type Ground } from "./painter";
import { extentOf, extentOfHeat, stack } from "./scale";
import { formatValue, type Unit } from "./units";

/** What a plot shows. */
export interface Picture {
  graph: Graph;
  hidden: ReadonlySet<string>;
  unit: Unit;
  isLog: boolean;
  isDark: boolean;
  zone: Zone;
  exemplars: Exemplar[];
}

/** What is under the pointer. */
export interface Pointed {
  left: number;
  top: number;
  time: number;
  line?: { name: string; labels: [string, string][]; value: number; colour: string };
  cell?: HeatCell;
  exemplar?: Exemplar;
}

export interface Listener {
  point(pointed: Pointed | undefined): void;
  /** Milliseconds since 1970. */
  select(from: number, to: number): void;
  painted(): void;
}

const LEAST_DRAG_PX = 4;
const NEAR_PX = 24;

/** A graph in an element. */
export class Plot {
  private readonly plot: uPlot;
  private readonly overlay: HTMLCanvasElement;
  private stopPainting = () => {};
  private drawn: Line[];
  private heat: ReturnType<typeof extentOfHeat> | undefined;
  private highlighted: string | undefined;

  constructor(
    private readonly host: HTMLElement,
    height: number,
    private picture: Picture,
    private readonly listener: Listener,
  ) {
    this.drawn = drawnLines(picture);
    this.heat = picture.graph.heat && extentOfHeat(picture.graph.heat);
    this.overlay = document.createElement("canvas");
    this.overlay.className = "highlight";
    this.plot = new uPlot(this.options(height), this.data(), host);
    this.plot.over.append(this.overlay);
    this.fitOverlay();
  }

  /** Shows something else in the same place. */
  show(picture: Picture): void {
    const before = this.picture;
    if ((Object.keys(picture) as (keyof Picture)[]).every((key) => picture[key] === before[key])) return;
    this.picture = picture;
    if (picture.graph !== before.graph || picture.hidden !== before.hidden) this.drawn = drawnLines(picture);
    this.heat = picture.graph.heat && extentOfHeat(picture.graph.heat);
    this.plot.setData(this.data());
  }

  resize(width: number, height: number): void {
    if (width <= 0 || (width === this.plot.width && height === this.plot.height)) return;
    this.plot.setSize({ width, height });
    this.fitOverlay();
  }

  /** Emphasises a line, as when the pointer is on its name. */
  highlight(name: string | undefined): void {
    if (name === this.highlighted) return;
    this.highlighted = name;
    const context = this.overlay.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    this.host.classList.toggle("has-highlight", name !== undefined);
    const place = this.drawn.findIndex((line) => line.name === name);
    const line = this.drawn[place];
    if (!line || this.picture.hidden.has(line.name)) return;
    const ground = this.ground(context, 0, 0);
    paintLine(ground, line, seriesColour(place, this.picture.isDark), { stacked: false, width: 3 });
  }

  destroy(): void {
    this.stopPainting();
    this.plot.destroy();
  }

  private data(): uPlot.AlignedData {
    const { graph } = this.picture;
    return [
      [graph.from / 1000, graph.to / 1000],
      [null, null],
    ];
  }

  private isLog(): boolean {
    return this.heat ? this.heat.isLog : this.picture.isLog;
  }

  private options(height: number): uPlot.Options {
    const { zone } = this.picture;
    const css = (name: string) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = {
      stroke: css("--text-soft"),
      grid: { stroke: css("--grid"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    return {
      width: Math.max(120, this.host.clientWidth),
      height,
      legend: { show: false },
      padding: [8, 18, 0, 0],
      ...(zone === "local"
        ? {}
        : { tzDate: (seconds: number) => uPlot.tzDate(new Date(seconds * 1000), zone === "UTC" ? "Etc/UTC" : zone) }),
      scales: {
        x: { range: () => [this.picture.graph.from / 1000, this.picture.graph.to / 1000] },
        y: { distr: this.isLog() ? 3 : 1, range: () => this.yRange() },
      },
      axes: [
        {
          ...axis,
          values: (_u, splits, _axis, _space, increment) => timeLabels(splits, increment, this.picture.zone),
          space: 76,
          size: 38,
        },
        {
          ...axis,
          values: (_u, splits) => splits.map((value) => (value === null ? "" : formatValue(value, this.yUnit()))),
          size: (u, values) =>
            Math.max(
              44,
              14 + Math.max(0, ...(values ?? []).map((text) => u.ctx.measureText(text).width / devicePixelRatio)),
            ),
        },
      ],
      series: [{}, { scale: "y", paths: () => null, points: { show: false } }],
      cursor: {
        drag: { x: true, y: false, setScale: false, dist: LEAST_DRAG_PX },
        points: { show: false },
        y: false,
        sync: { key: "time", setSeries: false },
        bind: { dblclick: () => null },
      },
      hooks: {
        draw: [() => this.draw()],
        setCursor: [() => this.pointed()],
        setSelect: [() => this.selected()],
      },
    };
  }

  private yUnit(): Unit {
    return this.picture.unit;
  }

  private yRange(): [number, number] {
    const { graph, hidden, isLog } = this.picture;
    const { min, max } = this.heat ?? extentOf(this.drawn, hidden, isLog);
    if (graph.heat || isLog || !graph.stacked) return [min, max];
    return [Math.min(0, min), max];
  }

  private ground(context: CanvasRenderingContext2D, left: number, top: number): Ground {
    const { bbox } = this.plot;
    const { from, to } = this.picture.graph;
    const { min = 0, max = 1 } = this.plot.scales["y"] ?? {};
    const isLog = this.isLog();
    const scale = isLog ? Math.log10 : (value: number) => value;
    const [low, high] = [scale(min), scale(max)];
    return {
      context,
      left,
      top,
      width: bbox.width,
      height: bbox.height,
      ratio: devicePixelRatio,
      x: (time) => left + ((time - from) / (to - from)) * bbox.width,
      y: (value) => top + (1 - (scale(value) - low) / (high - low)) * bbox.height,
    };
  }

  private draw(): void {
    this.stopPainting();
    const { graph, hidden, isDark, exemplars } = this.picture;
    const { bbox, ctx } = this.plot;
    const ground = this.ground(ctx, bbox.left, bbox.top);
    const colours = this.drawn.map((_, i) => seriesColour(i, isDark));
    const finish = () => {
      paintExemplars(ground, exemplars, isDark);
      this.listener.painted();
    };
    this.stopPainting = graph.heat
      ? paintHeat(ground, graph.heat, isDark, finish)
      : paint(ground, { lines: this.drawn, colours, hidden, stacked: graph.stacked }, finish);
  }

  private fitOverlay(): void {
    const { bbox } = this.plot;
    this.overlay.width = bbox.width;
    this.overlay.height = bbox.height;
    this.highlighted = undefined;
  }

  private selected(): void {
    const { left, width } = this.plot.select;
    if (width < LEAST_DRAG_PX) return;
    this.plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.listener.select(this.timeAt(left), this.timeAt(left + width));
  }

  private timeAt(left: number): number {
    return this.plot.posToVal(left, "x") * 1000;
  }

  private pointed(): void {
    const { left, top, event } = this.plot.cursor;
    if (left === undefined || top === undefined || left < 0 || top < 0 || !event) {
      this.highlight(undefined);
      this.listener.point(undefined);
      return;
    }
    const pointed: Pointed = {
      left: left + this.plot.over.offsetLeft,
      top: top + this.plot.over.offsetTop,
      time: this.timeAt(left),
    };
    const exemplar = this.exemplarAt(left, top);
    const { heat } = this.picture.graph;
    if (exemplar) {
      pointed.exemplar = exemplar;
    } else if (heat) {
      const cell = cellAt(heat, pointed.time, this.plot.posToVal(top, "y"));
      if (cell) pointed.cell = cell;
    }
    if (!exemplar && !pointed.cell) this.pointAtLine(pointed, left, top);
    this.highlight(pointed.line?.name);
    this.listener.point(pointed);
  }

  private pointAtLine(pointed: Pointed, left: number, top: number): void {
    const { graph, hidden, isDark } = this.picture;
    const pixel = (graph.to - graph.from) / Math.max(1, this.plot.over.clientWidth);
    const reach = Math.max(graph.step * 1.01, pixel * NEAR_PX);
    let nearest = Infinity;
    this.drawn.forEach((line, place) => {
      if (hidden.has(line.name)) return;
      const found = valueAt(line, pointed.time, reach);
      if (!found) return;
      const across = this.plot.valToPos(found.time / 1000, "x") - left;
      const distance = Math.hypot(across / 3, this.plot.valToPos(found.value, "y") - top);
      if (!(distance < nearest)) return;
      nearest = distance;
      const value = graph.lines[place]
        ? (valueAt(graph.lines[place], found.time, 0)?.value ?? found.value)
        : found.value;
      pointed.line = { name: line.name, labels: line.labels, value, colour: seriesColour(place, isDark) };
      pointed.time = found.time;
    });
  }

  private exemplarAt(left: number, top: number): Exemplar | undefined {
    const within = (exemplar: Exemplar) => {
      const x = this.plot.valToPos(exemplar.time / 1000, "x");
      const y = Math.min(this.plot.over.clientHeight - 6, Math.max(6, this.plot.valToPos(exemplar.value, "y")));
      return Math.hypot(x - left, y - top) < 8;
    };
    return this.picture.exemplars.find(within);
  }
}

function drawnLines({ graph, hidden }: Picture): Line[] {
  return graph.stacked ? stack(graph.lines, hidden) : graph.lines;
}

/** Diamonds; those beyond the scale stand at its edge. */
function paintExemplars(ground: Ground, exemplars: Exemplar[], isDark: boolean): void {
  const { context, ratio } = ground;
  const size = 4.5 * ratio;
  for (const { time, value } of exemplars) {
    const x = ground.x(time);
    if (x < ground.left || x > ground.left + ground.width) continue;
    const y = Math.min(ground.top + ground.height - 6 * ratio, Math.max(ground.top + 6 * ratio, ground.y(value)));
    context.beginPath();
    context.moveTo(x, y - size);
    context.lineTo(x + size, y);
    context.lineTo(x, y + size);
    context.lineTo(x - size, y);
    context.closePath();
    context.fillStyle = isDark ? "#ffd166" : "#7a3e00";
    context.strokeStyle = isDark ? "#101418" : "#ffffff";
    context.lineWidth = ratio;
    context.fill();
    context.stroke();
  }
}
