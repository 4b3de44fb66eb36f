/** Tests of the search for the packet rate that gets through, against ways of known capacity. */

import assert from "node:assert/strict";
import { searchRate, type UdpResult } from "./tunnel_load.ts";

function result(rate: number, received: number): UdpResult {
  return { sent: rate, received, perSecond: received, lossPercent: (rate - received) / rate * 100 };
}

/** A way that passes `capacity` packets per second and drops the rest. */
function wayOf(capacity: number): (rate: number) => Promise<UdpResult> {
  return (rate) => Promise.resolve(result(rate, Math.min(rate, capacity)));
}

Deno.test("searchRate() ends just below what the way takes", async () => {
  for (const capacity of [4_000, 30_000, 45_000, 100_000, 250_000, 1_000_000]) {
    const found = await searchRate(wayOf(capacity));
    assert.ok(found <= capacity * 1.01 && found >= capacity / 1.4, `${found} for ${capacity}`);
  }
});

Deno.test("searchRate() finds nothing where every rate loses", async () => {
  assert.equal(await searchRate((rate) => Promise.resolve(result(rate, rate * 0.98))), 0);
});

Deno.test("searchRate() takes a sender's own limit for the figure, and asks no more of it", async () => {
  const asked: number[] = [];
  const found = await searchRate((rate) => {
    asked.push(rate);
    const sent = Math.min(rate, 90_000);
    return Promise.resolve({ ...result(sent, sent), sent });
  });
  assert.equal(found, 90_000);
  assert.equal(new Set(asked.filter((rate) => rate > 90_000)).size, 1);
});

Deno.test("searchRate() forgives a stall, not a limit", async () => {
  let calls = 0;
  const found = await searchRate((rate) => {
    const stalled = ++calls % 3 !== 0;
    return Promise.resolve(result(rate, stalled ? rate / 2 : Math.min(rate, 100_000)));
  });
  assert.ok(found > 75_000, `${found}`);
});
