// What databases and tokens may take, and what they take.
import { Card } from "../card";
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
      <div class="scroll" tabIndex={0} role="region" aria-label="Limits">
        <table class="rows">
          <thead>
            <tr>
              <th scope="col">Of</th>
              <th scope="col" class="number">
                active series
              </th>
              <th scope="col" class="number">
                samples
              </th>
              <th scope="col" class="number">
                queries now
              </th>
              <th scope="col" class="number">
                throttled
              </th>
              <th scope="col">limits</th>
            </tr>
          </thead>
          <tbody>
            {(data ?? []).map((tenant, i) => (
              <tr key={i}>
                <td>{nameOf(tenant)}</td>
                <td class="number">{tenant.activeSeries?.toLocaleString("en") ?? "–"}</td>
                <td class="number">{tenant.samples.toLocaleString("en")}</td>
                <td class="number">{tenant.queries}</td>
                <td class="number">{tenant.throttled.toLocaleString("en")}</td>
                <td>{limitsOf(tenant) || <span class="soft">none</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
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
