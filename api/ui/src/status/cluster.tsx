// The processes over the store of this one.
import { Card } from "../card";
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
    <div class="scroll" tabIndex={0} role="region" aria-label="Processes with their states">
      <table class="rows nodes">
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col">State</th>
            <th scope="col">Roles</th>
            <th scope="col">Address</th>
            <th scope="col" class="number">
              Epoch
            </th>
          </tr>
        </thead>
        <tbody>
          {nodes.map((node) => (
            <tr key={node.node}>
              <td class="nowrap">
                {node.node}
                {node.node === own && <span class="soft"> this one</span>}
              </td>
              <td>
                <State node={node} />
              </td>
              <td>{node.roles.join(", ")}</td>
              <td>{node.address || <span class="soft">none</span>}</td>
              <td class="number">{node.epoch.toLocaleString("en")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
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
