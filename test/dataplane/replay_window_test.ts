/** The replay window, checked against a set that forgets nothing. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { REPLAY_WINDOW_SIZE, ReplayWindow } from "../../src/dataplane/replay_window.ts";

Deno.test("ReplayWindow agrees with a naive model", () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -40, max: 40 }) },
    { weight: 2, arbitrary: fc.integer({ min: -2 * REPLAY_WINDOW_SIZE, max: 2 * REPLAY_WINDOW_SIZE }) },
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
    const window = new ReplayWindow();
    const seen = new Set<number>();
    let highest = -1;
    let at = 10_000;
    for (const move of steps) {
      at = Math.max(0, at + move);
      const isTooOld = highest - at >= REPLAY_WINDOW_SIZE;
      assert.equal(window.isFresh(at), !seen.has(at) && !isTooOld, `id ${at}, highest ${highest}`);
      assert.equal(window.accept(at), !seen.has(at) && !isTooOld, `id ${at}, highest ${highest}`);
      if (!isTooOld) seen.add(at);
      if (at > highest) highest = at;
    }
  }));
});

Deno.test("ReplayWindow takes the ends of the safe integers once", () => {
  const window = new ReplayWindow();
  const last = Number.MAX_SAFE_INTEGER;
  assert.deepEqual([0, last, 0, last, last - 1].map((id) => window.accept(id)), [
    true,
    true,
    false,
    false,
    true,
  ]);
});
