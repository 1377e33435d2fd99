// What makes a database large: series by metric and label, bytes by table.
import { Card, Facts, Share } from "../card";
import { formatValue } from "../graph/units";
import { link } from "../address";
import { getJson } from "../server/http";
import { loadSegments } from "../server/segments";
import { useData } from "../use_data";

type Ranking = { name: string; value: number }[];

interface Cardinality {
  headStats: { numSeries: number; numLabelPairs: number };
  seriesCountByMetricName: Ranking;
  labelValueCountByLabelName: Ranking;
  memoryInBytesByLabelName: Ranking;
  seriesCountByLabelValuePair: Ranking;
}

const RANKS = 20;

export function Cost({ database }: { database: string }) {
  const { data, error } = useData(
    async (signal) =>
      (await getJson<{ data: Cardinality }>("/api/v1/status/tsdb", { limit: RANKS }, database, signal)).data,
    [database],
  );
  const stored = useData((signal) => loadSegments(database, signal), [database]);
  const series = data?.headStats.numSeries ?? 0;
  const exploring = (name: string) =>
    link("explore", new URLSearchParams({ ...(database === "default" ? {} : { db: database }), name }));
  return (
    <div class="cards">
      <Card title="Series of the last three hours" error={error}>
        <Facts
          facts={[
            ["Series", series.toLocaleString("en")],
            ["Pairs of label and value", (data?.headStats.numLabelPairs ?? 0).toLocaleString("en")],
          ]}
        />
      </Card>
      <Card title="Tables by bytes on the store" error={stored.error}>
        <RankingTable
          ranking={(stored.data?.tables ?? [])
            .slice(0, RANKS)
            .map(({ table, dataBytes, indexBytes }) => ({ name: table, value: dataBytes + indexBytes }))}
          format={(value) => formatValue(value, "bytes")}
        />
      </Card>
      <Card title="Metrics by series" error={error}>
        <RankingTable ranking={data?.seriesCountByMetricName ?? []} total={series} href={exploring} />
      </Card>
      <Card title="Labels by values" error={error}>
        <RankingTable ranking={data?.labelValueCountByLabelName ?? []} />
      </Card>
      <Card title="Labels by bytes" error={error}>
        <RankingTable ranking={data?.memoryInBytesByLabelName ?? []} format={(value) => formatValue(value, "bytes")} />
      </Card>
      <Card title="Pairs by series" error={error}>
        <RankingTable ranking={data?.seriesCountByLabelValuePair ?? []} total={series} />
      </Card>
    </div>
  );
}

interface RankingProps {
  ranking: Ranking;
  total?: number;
  format?(value: number): string;
  href?(name: string): string;
}

function RankingTable({ ranking, total, format, href }: RankingProps) {
  const most = total ?? Math.max(1, ...ranking.map(({ value }) => value));
  if (ranking.length === 0) return <p class="soft">None.</p>;
  return (
    <table class="ranking">
      <tbody>
        {ranking.map(({ name, value }) => (
          <tr key={name}>
            <td>{href ? <a href={href(name)}>{name}</a> : name}</td>
            <td class="number">{format ? format(value) : value.toLocaleString("en")}</td>
            <td class="share">
              <Share share={value / most} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
