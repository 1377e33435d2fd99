// All settings, to search in.
import { useState } from "preact/hooks";
import { Card } from "../card";
import { getJson } from "../server/http";
import { useData } from "../use_data";

export function Settings() {
  const { data, error } = useData(
    async (signal) =>
      (await getJson<{ data: Record<string, string> }>("/api/v1/status/flags", {}, undefined, signal)).data,
    [],
  );
  const [filter, setFilter] = useState("");
  const shown = Object.entries(data ?? {}).filter(([name]) => name.includes(filter.toLowerCase()));
  return (
    <Card
      title="Settings"
      error={error}
      wide
      tools={
        <input
          type="search"
          placeholder="Search"
          aria-label="Search settings"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
      }
    >
      <table class="ranking settings">
        <tbody>
          {shown.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">
                <code>{name}</code>
              </th>
              <td>{value === "" ? <span class="soft">unset</span> : value}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}
