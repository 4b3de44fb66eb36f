/** Token buckets: never more than promised, never a table without bounds. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { RateLimiter } from "../../src/api/rate_limit.ts";

Deno.test("whatever the pattern, no key gets more than its burst and its rate", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 2_000 }), { maxLength: 200 }), (pauses) => {
    let now = 1_000;
    const limiter = new RateLimiter({ perSecond: 2, burst: 5, now: () => now });
    let granted = 0;
    for (const pause of pauses) {
      now += pause;
      if (limiter.take("a") === 0) granted++;
    }
    assert.ok(granted <= 5 + (now - 1_000) / 1_000 * 2);
  }));
});

Deno.test("a flood of new keys does not grow the table, nor free the one that is limited", () => {
  const limiter = new RateLimiter({ perSecond: 1, burst: 1, now: () => 0, maxKeys: 100 });
  assert.equal(limiter.take("victim"), 0);
  for (let i = 0; i < 10_000; i++) {
    limiter.take(`key-${i}`);
    if (i % 50 === 0) assert.equal(limiter.take("victim"), 1, "who keeps asking is not forgotten");
  }
});

Deno.test("it says how long to wait, and a clock set back gives nothing", () => {
  let now = 10_000;
  const limiter = new RateLimiter({ perSecond: 0.5, burst: 1, now: () => now });
  assert.equal(limiter.take("a"), 0);
  assert.equal(limiter.take("a"), 2);
  now -= 60_000;
  assert.equal(limiter.take("a"), 2);
  now += 2_000;
  assert.equal(limiter.take("a"), 0);
});

Deno.test("bad requests cost more, within a bound", () => {
  let now = 0;
  const limiter = new RateLimiter({ perSecond: 1, burst: 10, now: () => now });
  assert.equal(limiter.take("a"), 0);
  for (let i = 0; i < 1_000; i++) limiter.charge("a", 10);
  assert.ok(limiter.take("a") > 0);
  now += 11_000;
  assert.equal(limiter.take("a"), 0, "nobody is locked out for good");
});
