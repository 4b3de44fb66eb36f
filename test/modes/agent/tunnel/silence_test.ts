import assert from "node:assert/strict";
import { SilenceWatch } from "../../../../src/modes/agent/tunnel/silence.ts";

/** Which of the looks give reason to ask; `carried` per look. */
function suspicions(carried: readonly (readonly [packetsIn: number, packetsOut: number])[]): number[] {
  const watch = new SilenceWatch();
  return carried.flatMap(([packetsIn, packetsOut], look) =>
    watch.isSuspicious({ packetsIn, packetsOut }) ? [look] : []
  );
}

Deno.test("a tunnel that brings something is not suspicious, whatever it sends", () => {
  assert.deepEqual(suspicions(Array.from({ length: 20 }, (_, i) => [i, 0])), []);
  assert.deepEqual(suspicions(Array.from({ length: 20 }, (_, i) => [i >> 1, i * 100])), []);
});

Deno.test("one that stops to bring anything is asked once, an idle one no more", () => {
  const idle = Array.from({ length: 20 }, () => [5, 5] as const);
  assert.deepEqual(suspicions([[3, 5], [4, 5], ...idle]), [5]);
  assert.deepEqual(suspicions([...idle, [6, 5], ...idle.map(() => [6, 5] as const)]), [3, 23]);
});

Deno.test("one that answers nothing of what is sent is asked again and again", () => {
  assert.deepEqual(suspicions(Array.from({ length: 10 }, (_, i) => [5, i])), [3, 6, 9]);
});
