/** The replay cache against a model that never forgets, and under pressure. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { ReplayCache } from "../../src/identity/replay_cache.ts";

const SPAN = 5_000;

Deno.test("ReplayCache passes a token once and refuses it until it expires", () => {
  const cache = new ReplayCache();
  const token = { owner: "a", id: "1", expiresAt: 90_000 };
  assert.equal(cache.use({ ...token, now: 0 }), "fresh");
  for (const now of [0, 1, 45_000, 89_999]) {
    assert.equal(cache.use({ ...token, now }), "replayed", String(now));
  }
  assert.equal(cache.use({ ...token, now: 90_000 }), "expired");
});

Deno.test("ReplayCache keeps owners apart, and refuses one id under another expiry", () => {
  const cache = new ReplayCache();
  assert.equal(cache.use({ owner: "a", id: "1", expiresAt: 90_000, now: 0 }), "fresh");
  assert.equal(cache.use({ owner: "b", id: "1", expiresAt: 90_000, now: 0 }), "fresh");
  assert.equal(cache.use({ owner: "a", id: "1", expiresAt: 30_000, now: 0 }), "replayed");
});

Deno.test("ReplayCache refuses when it is full instead of forgetting, and recovers by expiry alone", () => {
  const cache = new ReplayCache({ capacity: 3, capacityPerOwner: 3 });
  for (const id of ["1", "2", "3"]) {
    assert.equal(cache.use({ owner: "a", id, expiresAt: 10_000, now: 0 }), "fresh");
  }
  assert.equal(cache.use({ owner: "b", id: "4", expiresAt: 10_000, now: 0 }), "full");
  assert.equal(cache.use({ owner: "a", id: "1", expiresAt: 10_000, now: 0 }), "replayed");
  assert.equal(cache.size, 3);
  assert.equal(cache.use({ owner: "b", id: "4", expiresAt: 20_000, now: 10_000 }), "fresh");
  assert.equal(cache.size, 1);
});

Deno.test("ReplayCache lets no owner shut the others out", () => {
  const cache = new ReplayCache({ capacity: 8 });
  assert.equal(cache.use({ owner: "a", id: "1", expiresAt: 10_000, now: 0 }), "fresh");
  assert.equal(cache.use({ owner: "a", id: "2", expiresAt: 10_000, now: 0 }), "fresh");
  assert.equal(cache.use({ owner: "a", id: "3", expiresAt: 10_000, now: 0 }), "full");
  assert.equal(cache.use({ owner: "b", id: "3", expiresAt: 10_000, now: 0 }), "fresh");
  assert.equal(cache.use({ owner: "a", id: "3", expiresAt: 20_000, now: 10_000 }), "fresh");
});

Deno.test("ReplayCache does not revive a forgotten token when the clock is set back", () => {
  const cache = new ReplayCache();
  const token = { owner: "a", id: "1", expiresAt: 10_000 };
  assert.equal(cache.use({ ...token, now: 0 }), "fresh");
  assert.equal(cache.use({ owner: "a", id: "2", expiresAt: 90_000, now: 60_000 }), "fresh");
  assert.equal(cache.size, 1);
  assert.equal(cache.use({ ...token, now: 5_000 }), "expired");
});

Deno.test("ReplayCache never passes a token twice, whatever the order, the expiries and the clock", () => {
  const use = fc.record({
    owner: fc.constantFrom("a", "b"),
    id: fc.constantFrom("1", "2", "3", "4"),
    life: fc.integer({ min: 0, max: 4 * SPAN }),
    step: fc.integer({ min: -SPAN, max: 2 * SPAN }),
  });
  fc.assert(fc.property(fc.array(use, { maxLength: 60 }), (uses) => {
    const cache = new ReplayCache({ capacity: 5, capacityPerOwner: 3 });
    const passed = new Map<string, number>();
    let now = 100_000;
    for (const { owner, id, life, step } of uses) {
      now += step;
      const expiresAt = passed.get(owner + id) ?? now + life;
      if (cache.use({ owner, id, expiresAt, now }) !== "fresh") continue;
      assert.ok(!passed.has(owner + id), "a token passed twice");
      assert.ok(now < expiresAt, "an expired token passed");
      passed.set(owner + id, expiresAt);
      assert.ok(cache.size <= 5);
    }
  }));
});
