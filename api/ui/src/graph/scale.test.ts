import assert from "node:assert/strict";
import { test } from "node:test";
import type { Line } from "../worker/protocol";
import { extentOf, stack } from "./scale";

const line = (name: string, ...values: number[]): Line => {
  const stats = { count: 0, min: 0, max: 0, mean: 0, last: 0 };
  return { name, labels: [], times: Float64Array.from(values, (_, i) => i), values: Float64Array.from(values), stats };
};
const values = (lines: Line[]) => lines.map((each) => [...each.values]);

test("lines stand on the visible ones below them", () => {
  const lines = [line("a", 1, NaN, 1, NaN), line("b", 5, 5, 5, 5), line("c", 2, 2, NaN, NaN)];
  assert.deepEqual(values(stack(lines, new Set(["b"]))), [
    [1, NaN, 1, NaN],
    [5, 5, 5, 5],
    [3, 2, 1, NaN],
  ]);
});

test("extents", () => {
  const check = (numbers: number[], isLog: boolean, min: number, max: number) => {
    assert.deepEqual(extentOf([line("a", ...numbers)], new Set(), isLog), { min, max }, String(numbers));
  };
  check([], false, 0, 1);
  check([NaN, Infinity], false, 0, 1);
  check([4, 4], false, 0, 5);
  check([-4], false, -5, 0);
  check([0, 100], false, 0, 106);
  check([1000, 1100], false, 994, 1106);
  check([-5, 0, 10, 100], true, 10, 100);
  check([7], true, 0.7, 70);
});
