import assert from "node:assert/strict";
import { test } from "node:test";
import { chosenUnit, formatValue, plain, unitOf, type Unit } from "./units";

test("numbers are short", () => {
  const check = (value: number, unit: Unit, text: string) => assert.equal(formatValue(value, unit), text);
  check(0, "none", "0");
  check(1234, "none", "1234");
  check(12_345, "none", "12.35 k");
  check(0.000263, "none", "0.000263");
  check(1536, "bytes", "1.5 KiB");
  check(0.0123, "seconds", "12.3 ms");
  check(5400, "seconds", "90 min");
  check(0.255, "ratio", "25.5 %");
  check(-Infinity, "bytes", "-Inf");
  check(NaN, "seconds", "NaN");
  assert.equal(plain(1e-9), "1e-9");
});

test("units follow names", () => {
  const check = (expression: string, unit: Unit) => assert.equal(unitOf(expression), unit, expression);
  check("node_memory_free_bytes", "bytes");
  check("rate(node_network_receive_bytes_total[5m])", "bytes/s");
  check("rate(http_requests_total[5m])", "per second");
  check("rate(node_cpu_seconds_total[5m])", "none");
  check("histogram_quantile(0.9, sum by (le) (rate(x_seconds_bucket[5m])))", "seconds");
  check("a_bytes / b_bytes", "none");
  check("count(x_bytes)", "none");
  check("up", "none");
  assert.equal(chosenUnit("", "rate(x_seconds_bucket[5m])", true), "seconds");
  assert.equal(chosenUnit("percent", "x_bytes", false), "percent");
});
