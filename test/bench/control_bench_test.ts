/** The arithmetic of the control plane's rows. */

import assert from "node:assert/strict";
import { percentile } from "./control_bench.ts";

Deno.test("percentile() is the least value that the share of all does not exceed", () => {
  const values = Array.from({ length: 100 }, (_, i) => 100 - i);
  assert.deepEqual([0.5, 0.99, 1].map((share) => percentile(values, share)), [50, 99, 100]);
  assert.equal(percentile([7], 0.99), 7);
  assert.throws(() => percentile([], 0.5), RangeError);
});
