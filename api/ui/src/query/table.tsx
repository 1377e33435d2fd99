// The rows of an answer, a page at a time; the worker keeps and sorts them.
import { useEffect, useState } from "preact/hooks";
import { formatTime, type Zone } from "../time/zone";
import type { Cell, Column, Sort } from "../worker/protocol";
import type { Runner } from "./runner";

const PAGE_ROWS = 200;

interface Props {
  runner: Runner;
  columns: Column[];
  rows: number;
  zone: Zone;
  /** Another object with each answer. */
  answer: object;
}

export function Table({ runner, columns, rows, zone, answer }: Props) {
  const [first, setFirst] = useState(0);
  const [sort, setSort] = useState<Sort>();
  const [cells, setCells] = useState<Cell[][]>([]);
  useEffect(() => {
    setFirst(0);
    setSort(undefined);
  }, [columns.map(({ name }) => name).join("\u0000")]);
  useEffect(() => {
    let isCurrent = true;
    runner.rows(first, PAGE_ROWS, sort).then(
      (found) => isCurrent && setCells(found),
      () => {},
    );
    return () => {
      isCurrent = false;
    };
  }, [answer, first, sort]);
  if (rows === 0) return <p class="nothing">No rows.</p>;
  const order = (column: number) => {
    setFirst(0);
    setSort(
      sort?.column === column
        ? sort.descending
          ? { column, descending: false }
          : undefined
        : { column, descending: true },
    );
  };
  const last = Math.min(rows, first + PAGE_ROWS);
  return (
    <div class="table-view">
      <div class="scroll" tabIndex={0} role="region" aria-label="Rows of the answer">
        <table class="rows">
          <thead>
            <tr>
              {columns.map(({ name, kind }, i) => (
                <th
                  key={i}
                  scope="col"
                  class={kind === "text" ? "" : "number"}
                  aria-sort={sort?.column !== i ? "none" : sort.descending ? "descending" : "ascending"}
                >
                  <button class="plain" onClick={() => order(i)}>
                    {name}
                    {sort?.column === i ? (sort.descending ? " ↓" : " ↑") : ""}
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {cells.map((row, i) => (
              <tr key={i}>
                {row.map((cell, j) => (
                  <td key={j} class={columns[j]?.kind === "text" ? "" : "number"}>
                    {cell === null ? (
                      <span class="soft">null</span>
                    ) : columns[j]?.kind === "text" ? (
                      <div class="cell">{shown(cell, "text", zone)}</div>
                    ) : (
                      shown(cell, columns[j]?.kind, zone)
                    )}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows > PAGE_ROWS && (
        <div class="pages">
          <button class="small" disabled={first === 0} onClick={() => setFirst(first - PAGE_ROWS)}>
            Previous
          </button>
          <span>
            {(first + 1).toLocaleString("en")} to {last.toLocaleString("en")} of {rows.toLocaleString("en")}
          </span>
          <button class="small" disabled={last >= rows} onClick={() => setFirst(first + PAGE_ROWS)}>
            Next
          </button>
        </div>
      )}
    </div>
  );
}

const MAX_CELL_CHARS = 2000;

function shown(cell: string | number | boolean, kind: Column["kind"] | undefined, zone: Zone): string {
  if (typeof cell === "number") {
    if (kind === "time") return formatTime(cell, zone);
    return cell === Infinity ? "+Inf" : cell === -Infinity ? "-Inf" : String(cell);
  }
  const text = String(cell);
  return text.length > MAX_CELL_CHARS ? `${text.slice(0, MAX_CELL_CHARS)}…` : text;
}
