import assert from "node:assert/strict";
import { Patience } from "../../../src/modes/agent/patience.ts";

Deno.test("nobody is waited for longer than 0.9 s, however slow it usually is", () => {
  const patience = new Patience<object>();
  const peer = {};
  for (let i = 0; i < 100; i++) patience.answered(peer, 60_000);
  assert.equal(patience.of(peer), 900);
});

Deno.test("a peer that usually answers at once still has 0.3 s", () => {
  const patience = new Patience<object>();
  const peer = {};
  patience.answered(peer, 1);
  assert.equal(patience.of(peer), 300);
});

Deno.test("a peer has four times what it usually takes, and each its own", () => {
  const patience = new Patience<object>();
  const peer = {}, other = {};
  patience.answered(peer, 150);
  assert.deepEqual([patience.of(peer), patience.of(other)], [600, 600]);
  patience.answered(other, 100);
  assert.equal(patience.of(other), 400);
});

Deno.test("one slow answer moves what is usual by a fifth", () => {
  const patience = new Patience<object>();
  const peer = {};
  patience.answered(peer, 100);
  patience.answered(peer, 200);
  assert.equal(patience.of(peer), 480);
});
