// Names by a number, the largest first, with a bar each.
import { DataTable } from "../data_table";

export type Ranking = { name: string; value: number }[];

interface Props {
  ranking: Ranking;
  /** The title of the numbers. */
  title: string;
  /** What the bars are parts of; without it, the largest number. */
  total?: number | undefined;
  format?(value: number): string;
  href?(name: string): string;
  /** A second number of each name, with the title of its column. */
  second?: { title: string; of(value: number): string };
}

export function RankingTable({ ranking, title, total, format, href, second }: Props) {
  const most = total ?? Math.max(1, ...ranking.map(({ value }) => value));
  if (ranking.length === 0) return <p class="soft">None.</p>;
  return (
    <DataTable
      look="ranking"
      rows={ranking}
      keyOf={({ name }) => name}
      columns={[
        { head: "Name", cell: ({ name }) => (href ? <a href={href(name)}>{name}</a> : name) },
        { head: title, look: "number", cell: ({ value }) => (format ? format(value) : value.toLocaleString("en")) },
        second && { head: second.title, look: "number", cell: ({ value }) => second.of(value) },
        { head: `Share of ${total ? "all" : "the largest"}`, look: "share", cell: ({ value }) => value / most },
      ]}
    />
  );
}
