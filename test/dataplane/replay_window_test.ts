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
    const seen = new Set<bigint>();
    let highest = -1n;
    let at = 10_000n;
    for (const move of steps) {
      at = at + BigInt(move) < 0n ? 0n : at + BigInt(move);
      const isTooOld = highest - at >= BigInt(REPLAY_WINDOW_SIZE);
      assert.equal(window.accept(at), !seen.has(at) && !isTooOld, `id ${at}, highest ${highest}`);
      if (!isTooOld) seen.add(at);
      if (at > highest) highest = at;
    }
  }));
});

Deno.test("ReplayWindow takes the ends of the 64-bit range once", () => {
  const window = new ReplayWindow();
  const last = (1n << 64n) - 1n;
  assert.deepEqual([0n, last, 0n, last, last - 1n].map((id) => window.accept(id)), [
    true,
    true,
    false,
    false,
    true,
  ]);
});
