import assert from "node:assert/strict";
import fc from "fast-check";
import { AdaptiveSpin } from "../../../src/io/tun/adaptive_spin.ts";

Deno.test("it looks longer while packets come soon, and not at all after a long wait", () => {
  const spin = new AdaptiveSpin();
  assert.equal(spin.budget, 0);
  const budgets = Array.from({ length: 6 }, () => {
    spin.waited(spin.budget + 0.1);
    return spin.budget;
  });
  assert.deepEqual(budgets, [0.03, 0.06, 0.12, 0.24, 0.25, 0.25]);
  spin.waited(0.01);
  assert.equal(spin.budget, 0.25);
  spin.waited(20);
  assert.equal(spin.budget, 0);
});

Deno.test("it never looks for longer than a quarter of a millisecond", () => {
  fc.assert(fc.property(fc.array(fc.double({ min: 0, max: 5, noNaN: true })), (waits) => {
    const spin = new AdaptiveSpin();
    for (const wait of waits) {
      spin.waited(wait);
      assert.ok(spin.budget >= 0 && spin.budget <= 0.25);
    }
  }));
});
