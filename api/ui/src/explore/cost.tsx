// What makes a database large and dear: series by metric and label, bytes by table, requests to the store.
import { useState } from "preact/hooks";
import { Card, Facts } from "../card";
import { formatValue } from "../graph/units";
import { partOf } from "../tabs";
import { parseDuration } from "../time/duration";
import { fieldsOf, go, link } from "../address";
import { getJson } from "../server/http";
import { loadCardinality } from "../server/cardinality";
import { loadSegments } from "../server/segments";
import { useData } from "../use_data";
import { formatDollars, loadPrices, savePrices, STANDARD, storageDollars, type Prices } from "./prices";
import { RankingTable } from "./ranking";
import { Requests } from "./requests";

const RANKS = 20;
/** Of what times series are counted. */
const RANGES = { "3h": "3 hours", "1d": "day", "7d": "7 days", "30d": "30 days", "365d": "year" } as const;
type Range = keyof typeof RANGES;

export function Cost({ database, fields }: { database: string; fields: URLSearchParams }) {
  const last = partOf(RANGES, fields.get("last"), "3h");
  const { data, error } = useData(
    (signal) => {
      const start = (Date.now() - (parseDuration(last) ?? 0)) / 1000;
      return loadCardinality(database, { limit: RANKS, start }, signal);
    },
    [database, last],
  );
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
  const bytes = (value: number) => formatValue(value, "bytes");
  const month = { title: "a month", of: (value: number) => formatDollars(storageDollars(value, prices)) };
  const exploring = (name: string) => link("explore", fieldsOf(database, { name }));
  const count = (range: Range) => {
    const to = new URLSearchParams(fields);
    to.set("last", range);
    go("explore", to, "replace");
  };
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
          format={bytes}
          second={month}
        />
      </Card>
      <Requests prices={prices} millionReads={reads === undefined ? undefined : Number(reads)} />
      <Card
        title="Series of the last"
        error={error}
        tools={
          <select
            aria-label="Series of the last"
            value={last}
            onChange={({ currentTarget }) => count(currentTarget.value as Range)}
          >
            {Object.entries(RANGES).map(([value, title]) => (
              <option key={value} value={value}>
                {title}
              </option>
            ))}
          </select>
        }
      >
        {!data && <p class="soft">Counts the series…</p>}
        {data && (
          <Facts
            facts={[
              ["Series", series.toLocaleString("en")],
              ["Pairs of label and value", data.headStats.numLabelPairs.toLocaleString("en")],
              ["Samples", data.storedStats.numSamples.toLocaleString("en")],
              ["Bytes in segments", bytes(data.storedStats.bytes)],
            ]}
          />
        )}
        <p class="soft note">
          Samples and bytes are those of whole segments, a day at most. Each row of a segment is taken to be as large as
          the others. Below are the metrics and labels of these series.
        </p>
      </Card>
      <Card title="Metrics by bytes on the store" error={error}>
        <RankingTable
          ranking={data?.storedBytesByMetricName ?? []}
          title="bytes"
          total={data?.storedStats.bytes || undefined}
          format={bytes}
          href={exploring}
          second={month}
        />
      </Card>
      <Card title="Metrics by samples" error={error}>
        <RankingTable
          ranking={data?.sampleCountByMetricName ?? []}
          title="samples"
          total={data?.storedStats.numSamples || undefined}
          href={exploring}
        />
      </Card>
      <Card title="Metrics by series" error={error}>
        <RankingTable
          ranking={data?.seriesCountByMetricName ?? []}
          title="series"
          total={series || undefined}
          href={exploring}
        />
      </Card>
      <Card title="Labels by values" error={error}>
        <RankingTable ranking={data?.labelValueCountByLabelName ?? []} title="values" />
      </Card>
      <Card title="Labels by bytes" error={error}>
        <RankingTable ranking={data?.memoryInBytesByLabelName ?? []} title="bytes" format={bytes} />
      </Card>
      <Card title="Pairs by series" error={error}>
        <RankingTable ranking={data?.seriesCountByLabelValuePair ?? []} title="series" total={series || undefined} />
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
