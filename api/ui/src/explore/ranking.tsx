// Names by a number, the largest first, with a bar each.
import { Share } from "../card";

export type Ranking = { name: string; value: number }[];

interface Props {
  ranking: Ranking;
  /** What the bars are parts of; without it, the largest number. */
  total?: number;
  format?(value: number): string;
  href?(name: string): string;
  /** A second number of each name, with the title of its column. */
  second?: { title: string; of(value: number): string };
  /** The title of the first number's column; needed beside a second one. */
  title?: string;
}

export function RankingTable({ ranking, total, format, href, second, title }: Props) {
  const most = total ?? Math.max(1, ...ranking.map(({ value }) => value));
  if (ranking.length === 0) return <p class="soft">None.</p>;
  return (
    <table class="ranking">
      {second && (
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col" class="number">
              {title}
            </th>
            <th scope="col" class="number">
              {second.title}
            </th>
            <th scope="col" aria-label="Share of the largest" />
          </tr>
        </thead>
      )}
      <tbody>
        {ranking.map(({ name, value }) => (
          <tr key={name}>
            <td>{href ? <a href={href(name)}>{name}</a> : name}</td>
            <td class="number">{format ? format(value) : value.toLocaleString("en")}</td>
            {second && <td class="number">{second.of(value)}</td>}
            <td class="share">
              <Share share={value / most} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
