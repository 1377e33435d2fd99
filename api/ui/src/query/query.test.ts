import assert from "node:assert/strict";
import { test } from "node:test";
import { placeOf, quote } from "./position";
import { readState, writeState } from "./state";

test("errors name places", () => {
  const check = (message: string, text: string, word: string | undefined) => {
    const place = placeOf(message, text);
    assert.equal(place && text.slice(place.from, place.to), word, message);
  };
  // Prometheus counts bytes.
  check("1:14: parse error: unexpected right parenthesis ')'", '{a="éé"} ++)', ")");
  check("2:3: parse error: unknown function", "sum(\n  nope(up))", "nope");
  check("1:5: parse error: unexpected end of input", "up +", "+");
  check("sql parser error: found: FORM at Line: 2, Column: 1", "SELECT *\nFORM t", "FORM");
  check("error parsing query: found frm, expected FROM at line 1, char 12", "SELECT foo frm x", "frm");
  check("Schema error: No field named foo.", "select food, foo from x", "foo");
  check('table "nope" not found in schema "public"', "select * from nope", "nope");
  check("too many queries at once", "up", undefined);
  check("9:99: parse error: x", "up", "p");
  assert.deepEqual(quote("a\nbcd e\nf", { from: 3, to: 5 }), { line: "bcd e", carets: " ^^" });
});

test("an address has the whole state", () => {
  const fields = new URLSearchParams([
    ["db", "team"],
    ["from", "now-2d"],
    ["tz", "Europe/Berlin"],
    ["step", "1m"],
    ["refresh", "10s"],
    ["q", "sum(up)\n+ 1"],
    ["with", "stacked,exemplars"],
    ["q", "SELECT '&=#'"],
    ["lang", "sql"],
    ["show", "json"],
    ["unit", "bytes"],
  ]);
  assert.equal(writeState(readState(fields)).toString(), fields.toString());
});

test("what an address should not have is ignored", () => {
  const state = readState(
    new URLSearchParams("tz=Nowhere/At_all&lang=sql&q=up&lang=cobol&show=film&with=x,log&token=secret"),
  );
  assert.equal(state.zone, "local");
  const [panel] = state.panels;
  assert.deepEqual([panel?.language, panel?.show, panel?.log, panel?.stacked], ["promql", "graph", true, false]);
  assert.ok(!writeState(state).toString().includes("secret"));
  const many = readState(new URLSearchParams(Array.from({ length: 99 }, () => ["q", "up"])));
  assert.equal(many.panels.length, 24);
});
