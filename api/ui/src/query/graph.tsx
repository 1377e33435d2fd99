// The graph of an answer, what is under the pointer, and its legend.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Plot, type Picture, type Pointed } from "../graph/plot";
import { formatValue, plain, type Unit } from "../graph/units";
import { formatTime, type Zone } from "../time/zone";
import type { Graph as Drawn } from "../worker/protocol";
import type { Exemplar } from "./exemplars";
import { Legend } from "./legend";
import { useTheme } from "../use_theme";

const HEIGHT = 320;

interface Props {
  graph: Drawn;
  /** The name of a series without labels. */
  nameless: string;
  unit: Unit;
  isLog: boolean;
  zone: Zone;
  exemplars: Exemplar[];
  /** Milliseconds since 1970. */
  onSelect(from: number, to: number): void;
  onPan(by: number): void;
}

export function Graph({ graph, nameless, unit, isLog, zone, exemplars, onSelect, onPan }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | undefined>(undefined);
  const [pointed, setPointed] = useState<Pointed | undefined>(undefined);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const isDark = useTheme();
  const picture: Picture = { graph, hidden, unit, isLog, isDark, zone, exemplars };
  const callbacks = useRef({ onSelect, onPan });
  callbacks.current = { onSelect, onPan };
  const latest = useRef(picture);
  latest.current = picture;
  const isMade = useRef(false);

  // uPlot chooses scales and clocks when it is made.
  const made = `${isLog} ${zone} ${graph.heat !== undefined}`;
  useLayoutEffect(() => {
    const element = host.current;
    if (!element) return;
    const make = () => {
      const listener = {
        point: setPointed,
        select: (from: number, to: number) => callbacks.current.onSelect(from, to),
        painted: () => element.setAttribute("data-painted", String(Math.round(performance.now()))),
      };
      const created = new Plot(element, HEIGHT, latest.current, listener);
      plot.current = created;
      const watch = new ResizeObserver(() => created.resize(element.clientWidth, HEIGHT));
      watch.observe(element);
      return () => {
        watch.disconnect();
        created.destroy();
        plot.current = undefined;
      };
    };
    if (isMade.current) return make();
    // The first frame has the legend to make.
    let stop = () => {};
    const frame = requestAnimationFrame(() => {
      isMade.current = true;
      stop = make();
    });
    return () => {
      cancelAnimationFrame(frame);
      stop();
    };
  }, [made]);
  useEffect(() => plot.current?.show(picture), [graph, hidden, unit, isDark, exemplars]);
  useDragToPan(host, (by) => callbacks.current.onPan(by));

  const keys = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key];
    if (by !== undefined) onPan(by);
  };
  const summary = graph.heat ? "Heatmap" : `Graph of ${graph.lines.length} series`;
  return (
    <div class="graph">
      <div
        class="plot"
        ref={host}
        role="img"
        aria-label={`${summary}. Drag to zoom, drag with Shift or the arrow keys to move in time.`}
        tabIndex={0}
        onKeyDown={keys}
      >
        {pointed && <Tooltip pointed={pointed} unit={unit} zone={zone} width={host.current?.clientWidth ?? 0} />}
      </div>
      {!graph.heat && (
        <Legend
          nameless={nameless}
          lines={graph.lines}
          hidden={hidden}
          onHide={setHidden}
          unit={unit}
          onPoint={(name) => plot.current?.highlight(name)}
        />
      )}
    </div>
  );
}

/** Dragging with Shift, or with the middle button, moves the range; two wheels of a trackpad do, too. */
function useDragToPan(host: { current: HTMLDivElement | null }, pan: (by: number) => void): void {
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    let begun: number | undefined;
    const down = (event: MouseEvent) => {
      if (!event.shiftKey && event.button !== 1) return;
      begun = event.clientX;
      // uPlot must not begin a selection.
      event.stopPropagation();
      event.preventDefault();
    };
    const up = (event: MouseEvent) => {
      if (begun === undefined) return;
      const by = (begun - event.clientX) / Math.max(1, element.clientWidth);
      begun = undefined;
      if (Math.abs(by) > 0.01) pan(by);
    };
    element.addEventListener("mousedown", down, true);
    addEventListener("mouseup", up);
    return () => {
      element.removeEventListener("mousedown", down, true);
      removeEventListener("mouseup", up);
    };
  }, []);
}

function Tooltip({ pointed, unit, zone, width }: { pointed: Pointed; unit: Unit; zone: Zone; width: number }) {
  const { line, cell, exemplar } = pointed;
  if (!line && !cell && !exemplar) return null;
  const isLeft = pointed.left > width / 2;
  const style = {
    top: `${Math.max(0, pointed.top - 12)}px`,
    ...(isLeft ? { right: `${width - pointed.left + 14}px` } : { left: `${pointed.left + 14}px` }),
  };
  return (
    <div class="tooltip" style={style}>
      <div class="soft">{formatTime(exemplar?.time ?? cell?.time ?? pointed.time, zone)}</div>
      {line && (
        <>
          <div class="strong">
            <i class="swatch" style={{ background: line.colour }} />
            {formatValue(line.value, unit)}
            {unit !== "none" && <span class="soft"> {plain(line.value)}</span>}
          </div>
          <Labels labels={line.labels} />
        </>
      )}
      {cell && (
        <>
          <div class="strong">{plain(cell.count)}</div>
          <div class="soft">
            {formatValue(cell.low, unit)} to {formatValue(cell.high, unit)}
          </div>
        </>
      )}
      {exemplar && (
        <>
          <div class="strong">Exemplar {formatValue(exemplar.value, unit)}</div>
          <Labels labels={exemplar.labels} />
          <hr />
          <Labels labels={exemplar.series} />
        </>
      )}
    </div>
  );
}

function Labels({ labels }: { labels: [string, string][] }) {
  return (
    <dl class="labels">
      {labels.slice(0, 20).map(([name, value]) => (
        <div key={name}>
          <dt>{name === "__name__" ? "metric" : name}</dt>
          <dd>{value.length > 120 ? `${value.slice(0, 120)}…` : value}</dd>
        </div>
      ))}
    </dl>
  );
}
