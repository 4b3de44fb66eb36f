import assert from "node:assert/strict";
import { TokenBucket } from "../../../src/dataplane/tunnel/token_bucket.ts";

function taken(bucket: TokenBucket, now: number): number {
  let count = 0;
  while (count < 1_000 && bucket.take(now)) count++;
  return count;
}

Deno.test("a bucket gives its burst, then so many per second, and never saves up more than a burst", () => {
  const bucket = new TokenBucket({ burst: 10, perSecond: 4 });
  assert.equal(taken(bucket, 5_000), 10);
  assert.equal(taken(bucket, 5_249), 0);
  assert.equal(taken(bucket, 5_250), 1);
  assert.equal(taken(bucket, 6_250), 4);
  assert.equal(taken(bucket, 1_000_000), 10);
});

Deno.test("a clock that is set back neither fills a bucket nor empties it for long", () => {
  const bucket = new TokenBucket({ burst: 2, perSecond: 1 });
  assert.equal(taken(bucket, 100_000), 2);
  assert.equal(taken(bucket, 50_000), 0);
  assert.equal(taken(bucket, 51_000), 1);
});
