// Rows of objects in named columns, which may be sorted by a click on their heads.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Share } from "./card";

export interface Column<T> {
  head: string;
  cell(row: T): ComponentChildren;
  /**
   * Numbers stand right; a `count` is one as a number, a `share` a bar of a number up to 1. Only readers say the heads
   * of these bars and of `tools`.
   */
  look?: "number" | "count" | "nowrap" | "soft" | "share" | "tools" | undefined;
  /** What rows are sorted by, the largest first, if this column can be chosen for it. */
  by?: ((row: T) => number) | undefined;
}

interface Props<T> {
  columns: (Column<T> | false | undefined)[];
  rows: T[];
  keyOf(row: T, index: number): string | number;
  /** Of the table: "rows" is wide, "ranking" compact. */
  look: string;
  /** What readers call the region in which the table scrolls; without it, it does not. */
  label?: string;
  /** Whether the region has a largest height. */
  limited?: boolean | undefined;
  isChosen?(row: T): boolean;
  /** The head of the column that rows are sorted by at first; without it, they come as they are. */
  order?: string;
}

export function DataTable<T>({ columns, rows, keyOf, look, label, limited, isChosen, order }: Props<T>) {
  const shown = columns.filter((column) => !!column);
  const [chosen, setChosen] = useState(order);
  const by = shown.find(({ head }) => head === chosen)?.by;
  const sorted = by ? [...rows].sort((a, b) => by(b) - by(a)) : rows;
  const table = (
    <table class={look}>
      <thead>
        <tr>
          {shown.map((column) => (
            <Head
              key={column.head}
              column={column}
              isChosen={column.head === chosen}
              onChoose={() => setChosen(column.head)}
            />
          ))}
        </tr>
      </thead>
      <tbody>
        {sorted.map((row, i) => (
          <tr key={keyOf(row, i)} class={isChosen?.(row) ? "is-chosen" : ""}>
            {shown.map((column) => (
              <td key={column.head} class={classOf(column)}>
                {content(column, row)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
  if (label === undefined) return table;
  return (
    <div class={limited ? "scroll limited" : "scroll"} tabIndex={0} role="region" aria-label={label}>
      {table}
    </div>
  );
}

function content<T>({ look, cell }: Column<T>, row: T): ComponentChildren {
  switch (look) {
    case "count":
      return Number(cell(row)).toLocaleString("en");
    case "share":
      return <Share share={Number(cell(row))} />;
    default:
      return cell(row);
  }
}

function classOf<T>({ look }: Column<T>): string {
  return look === "count" ? "number" : (look ?? "");
}

interface HeadProps<T> {
  column: Column<T>;
  isChosen: boolean;
  onChoose(): void;
}

function Head<T>({ column, isChosen, onChoose }: HeadProps<T>) {
  const { head, look, by } = column;
  if (look === "share" || look === "tools") return <th scope="col" aria-label={head} />;
  const alignment = classOf(column) === "number" ? "number" : "";
  if (!by)
    return (
      <th scope="col" class={alignment}>
        {head}
      </th>
    );
  return (
    <th scope="col" class={alignment} aria-sort={isChosen ? "descending" : "none"}>
      <button class="plain" onClick={onChoose}>
        {head}
        {isChosen && " ↓"}
      </button>
    </th>
  );
}
