// What databases and tokens may take, and what they take.
import { Card } from "../card";
import { DataTable } from "../data_table";
import { getJson } from "../server/http";
import { useData } from "../use_data";

interface Tenant {
  limits: Record<string, string | number | null>;
  activeSeries?: number;
  queries: number;
  samples: number;
  throttled: number;
}

export function Limits() {
  const { data, error } = useData(
    async (signal) => (await getJson<{ data: Tenant[] }>("/api/v1/status/limits", {}, undefined, signal)).data,
    [],
    5000,
  );
  return (
    <Card title="Limits and what is taken" error={error} wide>
      <DataTable
        label="Limits"
        look="rows"
        rows={data ?? []}
        keyOf={(_, i) => i}
        columns={[
          { head: "Of", cell: nameOf },
          {
            head: "active series",
            look: "number",
            cell: ({ activeSeries }) => activeSeries?.toLocaleString("en") ?? "–",
          },
          { head: "samples", look: "count", cell: ({ samples }) => samples },
          { head: "queries now", look: "count", cell: ({ queries }) => queries },
          { head: "throttled", look: "count", cell: ({ throttled }) => throttled },
          { head: "limits", cell: (tenant) => limitsOf(tenant) || <span class="soft">none</span> },
        ]}
      />
    </Card>
  );
}

function nameOf({ limits }: Tenant): string {
  if (typeof limits["db"] === "string") return limits["db"];
  return typeof limits["token_name"] === "string" ? `token ${limits["token_name"]}` : "all other databases";
}

function limitsOf({ limits }: Tenant): string {
  const set = Object.entries(limits).filter(
    ([name, value]) => name !== "db" && name !== "token_name" && value !== null,
  );
  return set.map(([name, value]) => `${name} ${value?.toLocaleString("en")}`).join(", ");
}
