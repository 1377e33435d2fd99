// The processes over the store of this one.
import { Card } from "../card";
import { DataTable } from "../data_table";
import { getJson } from "../server/http";
import { useData } from "../use_data";
import { duties, stateOf, type Node } from "./nodes";

const EVERY_MS = 3000;

export function Cluster() {
  const { data, error } = useData<Node[]>(loadNodes, [], EVERY_MS);
  const own = useData(
    async (signal) =>
      (await getJson<{ data: Record<string, string> }>("/api/v1/status/flags", {}, undefined, signal)).data["node"],
    [],
  );
  const found = data ? duties(data) : [];
  return (
    <Card title="Processes of the store" error={error} wide>
      {data && (
        <p class="duties" role="status">
          Of the live processes{" "}
          {found.map(({ text, isMissing }, i) => (
            <span key={i}>
              <span class={isMissing ? "error-text" : ""}>{text}</span>
              {i < found.length - 1 ? ", " : "."}
            </span>
          ))}
        </p>
      )}
      {data && <Nodes nodes={data} own={own.data} />}
    </Card>
  );
}

function Nodes({ nodes, own }: { nodes: Node[]; own: string | undefined }) {
  return (
    <DataTable
      label="Processes with their states"
      look="rows nodes"
      rows={nodes}
      keyOf={({ node }) => node}
      columns={[
        {
          head: "Node",
          look: "nowrap",
          cell: ({ node }) => (
            <>
              {node}
              {node === own && <span class="soft"> this one</span>}
            </>
          ),
        },
        { head: "State", cell: (node) => <State node={node} /> },
        { head: "Roles", cell: ({ roles }) => roles.join(", ") },
        { head: "Address", cell: ({ address }) => address || <span class="soft">none</span> },
        { head: "Epoch", look: "count", cell: ({ epoch }) => epoch },
      ]}
    />
  );
}

function State({ node }: { node: Node }) {
  const { look, meaning } = stateOf(node);
  return (
    <>
      <span class={`dot ${look}`}>{node.state}</span>
      {meaning && <span class="soft meaning"> {meaning}</span>}
    </>
  );
}

async function loadNodes(signal: AbortSignal): Promise<Node[]> {
  return (await getJson<{ data: { nodes: Node[] } }>("/api/v1/status/cluster", {}, undefined, signal)).data.nodes;
}
