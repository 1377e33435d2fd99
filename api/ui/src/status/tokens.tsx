// The tokens of the server: who has which rights, and how to make and revoke them.
import { useState } from "preact/hooks";
import { Card } from "../card";
import { DataTable } from "../data_table";
import { getJson, send } from "../server/http";
import { formatTime } from "../time/zone";
import { useData } from "../use_data";

interface Token {
  id: number;
  name: string;
  created_at: string | null;
  expiry: string | null;
  last_used_at: string | null;
  permissions: { resource_names: string[]; actions: string[] }[];
}

const ACTIONS = ["read", "write", "delete", "admin"] as const;

export function Tokens() {
  const { data, error, again } = useData(
    (signal) => getJson<Token[]>("/api/v3/configure/token", { format: "json" }, undefined, signal),
    [],
  );
  const [failed, setFailed] = useState("");
  const [asked, setAsked] = useState("");
  const revoke = async (name: string) => {
    setFailed("");
    try {
      await send(`/api/v3/configure/token?token_name=${encodeURIComponent(name)}`, { method: "DELETE" });
    } catch (refused) {
      setFailed(refused instanceof Error ? refused.message : String(refused));
    }
    setAsked("");
    again();
  };
  return (
    <Card title="Tokens" error={error} wide>
      {failed && (
        <p class="error-text" role="alert">
          {failed}
        </p>
      )}
      <NewToken onMade={again} />
      {data?.length === 0 ? (
        <p class="soft">There are no tokens.</p>
      ) : (
        <DataTable
          label="Tokens"
          look="rows"
          rows={data ?? []}
          keyOf={({ id }) => id}
          columns={[
            { head: "Name", cell: ({ name }) => name },
            {
              head: "Allows",
              cell: ({ permissions }) =>
                permissions
                  .map(({ resource_names, actions }) => `${resource_names.join(", ")}: ${actions.join(", ")}`)
                  .join("; "),
            },
            { head: "Expires", look: "nowrap", cell: ({ expiry }) => shown(expiry, "never") },
            { head: "Last used", look: "nowrap", cell: ({ last_used_at }) => shown(last_used_at, "–") },
            { head: "Made", look: "nowrap", cell: ({ created_at }) => shown(created_at, "–") },
            {
              head: "Revoke",
              look: "tools",
              cell: ({ name }) =>
                asked === name ? (
                  <button class="small danger" onClick={() => void revoke(name)}>
                    Really revoke
                  </button>
                ) : (
                  <button class="small" aria-label={`Revoke ${name}`} onClick={() => setAsked(name)}>
                    Revoke
                  </button>
                ),
            },
          ]}
        />
      )}
    </Card>
  );
}

function shown(time: string | null, fallback: string): string {
  return time === null ? fallback : formatTime(Date.parse(time), "local").slice(0, 19);
}

function NewToken({ onMade }: { onMade(): void }) {
  const [name, setName] = useState("");
  const [databases, setDatabases] = useState("default");
  const [action, setAction] = useState<(typeof ACTIONS)[number]>("read");
  const [days, setDays] = useState("");
  const [secret, setSecret] = useState("");
  const [error, setError] = useState("");
  const make = async (event: Event) => {
    event.preventDefault();
    setError("");
    const body = {
      token_name: name.trim(),
      permissions: [
        { resource_type: "db", resource_names: databases.split(",").map((each) => each.trim()), actions: [action] },
      ],
      ...(days ? { expiry_secs: Math.round(Number(days) * 86_400) } : {}),
    };
    try {
      const answer = await send("/api/v3/enterprise/configure/token", {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "Content-Type": "application/json" },
      });
      setSecret(((await answer.json()) as { token: string }).token);
      setName("");
      onMade();
    } catch (failed) {
      setError(failed instanceof Error ? failed.message : String(failed));
    }
  };
  return (
    <>
      <form class="new-token" onSubmit={(event) => void make(event)}>
        <label class="field">
          Name
          <input value={name} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <label class="field">
          Databases
          <input
            value={databases}
            title="Names with commas between; * stands for any characters"
            onInput={(event) => setDatabases(event.currentTarget.value)}
          />
        </label>
        <label class="field">
          Right
          <select value={action} onChange={(event) => setAction(event.currentTarget.value as typeof action)}>
            {ACTIONS.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <label class="field">
          Days
          <input
            class="short"
            inputMode="numeric"
            placeholder="for ever"
            value={days}
            onInput={(event) => setDays(event.currentTarget.value)}
          />
        </label>
        <button class="primary" type="submit" disabled={name.trim() === ""}>
          Create
        </button>
      </form>
      {error && (
        <p class="error-text" role="alert">
          {error}
        </p>
      )}
      {secret && (
        <p class="remark" role="status">
          The token, which is shown only now: <code class="secret">{secret}</code>{" "}
          <button class="small" onClick={() => setSecret("")}>
            Hide
          </button>
        </p>
      )}
    </>
  );
}
