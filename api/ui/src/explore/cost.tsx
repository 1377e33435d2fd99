// What makes a database large and dear: series by metric and label, bytes by table, requests to the store.
import { useState } from "preact/hooks";
import { Card, Facts } from "../card";
import { formatValue } from "../graph/units";
import { link } from "../address";
import { getJson } from "../server/http";
import { loadCardinality } from "../server/cardinality";
import { loadSegments } from "../server/segments";
import { useData } from "../use_data";
import { formatDollars, loadPrices, savePrices, STANDARD, storageDollars, type Prices } from "./prices";
import { RankingTable } from "./ranking";
import { Requests } from "./requests";

const RANKS = 20;

export function Cost({ database }: { database: string }) {
  const { data, error } = useData((signal) => loadCardinality(database, { limit: RANKS }, signal), [database]);
  const stored = useData((signal) => loadSegments(database, signal), [database]);
  const settings = useData(
    async (signal) =>
      (await getJson<{ data: Record<string, string> }>("/api/v1/status/flags", {}, undefined, signal)).data,
    [],
  );
  const [prices, setPrices] = useState(loadPrices);
  const change = (next: Prices) => {
    setPrices(next);
    savePrices(next);
  };
  const reads = settings.data?.["store-dollars-per-million-reads"];
  const series = data?.headStats.numSeries ?? 0;
  const exploring = (name: string) =>
    link("explore", new URLSearchParams({ ...(database === "default" ? {} : { db: database }), name }));
  return (
    <div class="cards">
      <Card title="Prices" wide>
        <PriceFields prices={prices} onChange={change} />
        <p class="soft note">
          At first those of S3 Standard.
          {settings.error && ` What reads cost is a setting of the server: ${settings.error.message}.`}
          {reads !== undefined && ` A million reads cost $${reads}, as the server is set.`}
          {settings.data?.["store"] === "" &&
            " This server keeps its files in a folder: dollars are those of a bucket."}
        </p>
      </Card>
      <Card title="Tables by bytes on the store" error={stored.error}>
        <RankingTable
          ranking={(stored.data?.tables ?? [])
            .slice(0, RANKS)
            .map(({ table, dataBytes, indexBytes }) => ({ name: table, value: dataBytes + indexBytes }))}
          title="bytes"
          format={(value) => formatValue(value, "bytes")}
          second={{ title: "a month", of: (value) => formatDollars(storageDollars(value, prices)) }}
        />
      </Card>
      <Requests prices={prices} millionReads={reads === undefined ? undefined : Number(reads)} />
      <Card title="Series of the last three hours" error={error}>
        <Facts
          facts={[
            ["Series", series.toLocaleString("en")],
            ["Pairs of label and value", (data?.headStats.numLabelPairs ?? 0).toLocaleString("en")],
          ]}
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

function PriceFields({ prices, onChange }: { prices: Prices; onChange(prices: Prices): void }) {
  const field = (name: keyof Prices, label: string) => (
    <label>
      {label} <span class="soft">$</span>
      <input
        class="short"
        type="number"
        min="0"
        step="any"
        value={prices[name]}
        onChange={({ currentTarget: { valueAsNumber } }) =>
          onChange({ ...prices, [name]: valueAsNumber >= 0 ? valueAsNumber : STANDARD[name] })
        }
      />
    </label>
  );
  return (
    <p class="prices">
      {field("gibMonth", "A GiB for a month")}
      {field("millionWrites", "A million puts or lists")}
    </p>
  );
}
