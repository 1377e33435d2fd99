import assert from "node:assert/strict";
import { test } from "node:test";
import { duties, stateOf, type Node } from "./nodes";
import { summary } from "./query_costs";

const node = (state: string, ...roles: string[]): Node => ({ node: "n", roles, address: "", state, epoch: 1 });

test("states have a look and a meaning", () => {
  const looks = ["alive", "leaving", "adopted", "dead", "unheard of"].map((state) => stateOf(node(state)).look);
  assert.deepEqual(looks, ["good", "warn", "warn", "bad", ""]);
  assert.equal(stateOf(node("dead", "ingest")).meaning, "is gone, and its log waits for another process");
  assert.equal(stateOf(node("dead", "query")).meaning, "is gone");
});

test("only live processes have duties", () => {
  const nodes = [
    node("alive", "ingest", "query"),
    node("alive", "ingest"),
    node("dead", "compact"),
    node("leaving", "query"),
  ];
  assert.deepEqual(duties(nodes), [
    { text: "2 take writes", isMissing: false },
    { text: "1 answers queries", isMissing: false },
    { text: "none merges", isMissing: true },
  ]);
});

test("what all queries cost is a sentence", () => {
  const cost = { running_ms: 90_000, computing_ms: 0, memory_hits: 0, disk_hits: 0, rows: 0 };
  const many = { ...cost, queries: 1200, failed: 3, requests: 5000, bytes: 2048, dollars: 0.002 };
  const shown = (all: typeof many) => summary({ since_ms: 0, all }).replace(/^Since [\d-]+ [\d:]+: /, "");
  assert.equal(
    shown(many),
    "1,200 queries, 3 of them without a whole answer, $0.002 for 2 KiB in 5,000 requests, 90 s.",
  );
  const one = { ...cost, queries: 1, failed: 0, requests: 1, bytes: 0, dollars: 0 };
  assert.equal(shown(one), "1 query, $0 for 0 B in 1 request, 90 s.");
});
