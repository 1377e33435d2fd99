import assert from "node:assert/strict";
import { test } from "node:test";
import { inFrames, nextBudget, type Ground } from "./painter";

/** Frames that come when the test says so. */
function frames(): { next(now: number): void; waiting(): number } {
  let waiting: ((now: number) => void)[] = [];
  Object.assign(globalThis, {
    requestAnimationFrame: (call: (now: number) => void) => waiting.push(call),
    cancelAnimationFrame: () => (waiting = []),
  });
  return {
    next(now) {
      const calls = waiting;
      waiting = [];
      for (const call of calls) call(now);
    },
    waiting: () => waiting.length,
  };
}

const nothing = () => {};
const context = { save: nothing, beginPath: nothing, rect: nothing, clip: nothing, restore: nothing };
const ground = { context, left: 0, top: 0, width: 1, height: 1 } as unknown as Ground;

/** Takes a while, as painting does. */
function busy(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

test("the time for painting follows that of whole frames", () => {
  // Frames of 90 ms are twice too long, of 20 ms too short; a single slow one does not stop the painting.
  assert.equal(nextBudget(8, 90), 4);
  assert.equal(nextBudget(8, 20), 12);
  assert.equal(nextBudget(8, 45), 8);
  assert.equal(nextBudget(3, 1000), 2);
  assert.equal(nextBudget(20, 10), 24);
});

test("all pieces are done once and in order, over several frames", () => {
  const { next, waiting } = frames();
  const done: number[] = [];
  let ended = 0;
  const work = (piece: number) => {
    busy(0.5);
    done.push(piece);
  };
  inFrames(ground, 60, work, () => (ended += 1));
  assert.equal(done.length, 0);
  next(0);
  const first = done.length;
  assert.ok(first >= 1 && first < 60, `${first}`);
  for (let now = 200; waiting() > 0; now += 200) next(now);
  assert.deepEqual(
    done,
    Array.from({ length: 60 }, (_, i) => i),
  );
  assert.equal(ended, 1);
});

test("little work is done at once, and what is stopped goes on no more", () => {
  const { next } = frames();
  let [count, ended] = [0, 0];
  const piece = () => (count += 1);
  const end = () => (ended += 1);
  inFrames(ground, 3, () => piece(), end);
  inFrames(ground, 0, () => piece(), end);
  assert.deepEqual([count, ended], [3, 2]);
  const stop = inFrames(ground, 1000, () => piece(), end);
  stop();
  next(0);
  assert.deepEqual([count, ended], [3, 2]);
});
