import assert from "node:assert/strict";
import { test } from "node:test";
import { formatDuration, parseDuration } from "./duration";
import { niceStep, scaled, shifted, spanOf, stepOf } from "./range";
import { formatTime, parseTime } from "./zone";

test("durations", () => {
  const check = (text: string, ms: number | undefined) => assert.equal(parseDuration(text), ms, text);
  check("90s", 90_000);
  check("1h30m", 5_400_000);
  check("2w", 14 * 86_400_000);
  check("250ms", 250);
  check("15", 15_000);
  check("", undefined);
  check("1h x", undefined);
  check("-1h", undefined);
  assert.equal(formatDuration(90_061_001), "1d1h1m1s1ms");
  assert.equal(formatDuration(0), "0s");
});

test("ranges", () => {
  const now = Date.UTC(2026, 10, 30, 6);
  const hour = { from: "now-1h", to: "now" };
  assert.deepEqual(spanOf(hour, now), { from: now - 3_600_000, to: now });
  assert.equal(spanOf({ from: "now", to: "now-1h" }, now), undefined);
  assert.equal(spanOf({ from: "yesterday", to: "now" }, now), undefined);
  assert.deepEqual(scaled(hour, 2, now), { from: "now-2h", to: "now" });
  assert.deepEqual(shifted(hour, -0.5, now), { from: "2026-11-30T04:30:00.000Z", to: "2026-11-30T05:30:00.000Z" });
});

test("steps", () => {
  const span = { from: 0, to: 3_600_000 };
  assert.equal(niceStep(span, 1200), 10_000);
  assert.equal(niceStep({ from: 0, to: 365 * 86_400_000 }, 1000), 86_400_000);
  assert.equal(stepOf("1m", span, 1200), 60_000);
  assert.equal(stepOf("", span, 1200), 10_000);
  // The server gives 11,000 steps at most.
  assert.equal(stepOf("1ms", span, 1200), Math.ceil(3_600_000 / 11_000));
});

test("times in zones", () => {
  const ms = Date.UTC(2026, 6, 1, 22, 30, 5, 7);
  assert.equal(formatTime(ms, "UTC"), "2026-07-01 22:30:05.007");
  assert.equal(formatTime(ms, "Europe/Berlin"), "2026-07-02 00:30:05.007");
  assert.equal(formatTime(ms, "local"), "2026-07-02 00:30:05.007");
  for (const zone of ["UTC", "Europe/Berlin", "America/New_York"]) {
    assert.equal(parseTime(formatTime(ms, zone), zone), ms, zone);
    // Around a change of the clock.
    const change = Date.UTC(2026, 2, 29, 1, 0, 0);
    for (const near of [change - 3_600_000, change, change + 7_200_000]) {
      assert.equal(parseTime(formatTime(near, zone), zone), near, `${zone} ${near}`);
    }
  }
  assert.equal(parseTime("2026-07-01", "UTC"), Date.UTC(2026, 6, 1));
  assert.equal(parseTime("1.7.2026", "UTC"), undefined);
});
