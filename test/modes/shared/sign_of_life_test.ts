import assert from "node:assert/strict";
import { hasSignOfLife } from "../../../src/modes/shared/sign_of_life.ts";

/** Milliseconds; a test that waits for them all takes three and a quarter times as long. */
const patience = 40;

Deno.test("a relay that answers nothing is asked three times, and gives no sign of life", async () => {
  const asked: AbortSignal[] = [];
  const ask = (signal: AbortSignal) => {
    asked.push(signal);
    return silence(signal);
  };
  assert.equal(await hasSignOfLife({ ask, isRefused: silence, patience }), false);
  assert.equal(asked.length, 3);
  assert.ok(asked.every(({ aborted }) => aborted), "a request was left open");
});

Deno.test("an answer to the last request is a sign of life", async () => {
  let asked = 0;
  const ask = (signal: AbortSignal) => ++asked === 3 ? Promise.resolve() : silence(signal);
  assert.equal(await hasSignOfLife({ ask, isRefused: notRefused, patience }), true);
});

Deno.test("a late answer to the first request is a sign of life too", async () => {
  const first = Promise.withResolvers<void>();
  let asked = 0;
  const ask = (signal: AbortSignal) => {
    if (++asked === 1) return first.promise;
    first.resolve();
    return silence(signal);
  };
  assert.equal(await hasSignOfLife({ ask, isRefused: notRefused, patience }), true);
  assert.equal(asked, 2);
});

Deno.test("a relay that answers at once is not bothered in another way", async () => {
  const isRefused = () => assert.fail("asked");
  assert.equal(await hasSignOfLife({ ask: () => Promise.resolve(), isRefused, patience: 10_000 }), true);
});

Deno.test("where nobody listens any more, no further request is waited for", async () => {
  let asked = 0;
  const ask = (signal: AbortSignal) => {
    asked++;
    return silence(signal);
  };
  assert.equal(await hasSignOfLife({ ask, isRefused: () => Promise.resolve(true), patience: 400 }), false);
  assert.equal(asked, 1);
});

Deno.test("a connection that ends or drains tells by itself: that is no silence", async () => {
  const ask = () => Promise.reject(new Error("draining"));
  assert.equal(await hasSignOfLife({ ask, isRefused: notRefused, patience: 10_000 }), true);
});

Deno.test("an answer counts though the other way cannot be tried", async () => {
  let asked = 0;
  const ask = (signal: AbortSignal) => ++asked === 2 ? Promise.resolve() : silence(signal);
  const isRefused = () => Promise.reject(new Error("no route"));
  assert.equal(await hasSignOfLife({ ask, isRefused, patience }), true);
});

const notRefused = () => Promise.resolve(false);

/** What asking a dead peer is like. */
function silence(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}
