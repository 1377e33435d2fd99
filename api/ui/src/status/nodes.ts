// The processes of a store, and what their states mean.

export interface Node {
  node: string;
  roles: string[];
  address: string;
  state: string;
  epoch: number;
}

/** How a state looks, and what it means; states that are not known have no colour. */
export function stateOf({ state, roles }: Node): { look: "good" | "warn" | "bad" | ""; meaning: string } {
  switch (state) {
    case "alive":
      return { look: "good", meaning: "" };
    case "leaving":
      return { look: "warn", meaning: "flushes and hands over" };
    case "adopted":
      return { look: "warn", meaning: "is gone, and another process puts its log into segments" };
    case "dead":
      return {
        look: "bad",
        meaning: roles.includes("ingest") ? "is gone, and its log waits for another process" : "is gone",
      };
    default:
      return { look: "", meaning: "" };
  }
}

const ROLES: [string, string, string][] = [
  ["ingest", "takes writes", "take writes"],
  ["query", "answers queries", "answer queries"],
  ["compact", "merges", "merge"],
];

/** How many live processes have each role, as a sentence a role; `isMissing` if there is none. */
export function duties(nodes: Node[]): { text: string; isMissing: boolean }[] {
  return ROLES.map(([role, does, doPlural]) => {
    const count = nodes.filter(({ state, roles }) => state === "alive" && roles.includes(role)).length;
    return {
      text: count === 1 ? `1 ${does}` : `${count || "none"} ${count === 0 ? does : doPlural}`,
      isMissing: count === 0,
    };
  });
}
