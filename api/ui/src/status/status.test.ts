import assert from "node:assert/strict";
import { test } from "node:test";
import { duties, stateOf, type Node } from "./nodes";

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
