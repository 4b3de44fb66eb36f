import assert from "node:assert/strict";
import { HEADROOM } from "../../src/base/channel.ts";
import { allocateWithHeadroom, markHeadroom, widenIntoHeadroom } from "../../src/base/headroom.ts";

Deno.test("widenIntoHeadroom() widens a view of a marked buffer to its front, in place", () => {
  const bytes = allocateWithHeadroom(10);
  const wide = widenIntoHeadroom(bytes.subarray(4), 6)!;
  assert.equal(wide.buffer, bytes.buffer);
  assert.deepEqual([wide.byteOffset, wide.length], [HEADROOM - 2, 12]);
});

Deno.test("widenIntoHeadroom() refuses where there is no room, and any buffer that is not marked", () => {
  assert.equal(widenIntoHeadroom(allocateWithHeadroom(10), HEADROOM + 1), undefined);
  assert.equal(widenIntoHeadroom(new Uint8Array(100).subarray(50), 1), undefined);
});

Deno.test("markHeadroom() keeps the mark of memory that moved", () => {
  const moved = new Uint8Array(allocateWithHeadroom(10).buffer.transfer(), HEADROOM);
  assert.equal(widenIntoHeadroom(moved, 1), undefined);
  markHeadroom(moved.buffer);
  assert.equal(widenIntoHeadroom(moved, 1)?.length, 11);
});
