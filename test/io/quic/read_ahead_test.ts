import assert from "node:assert/strict";
import { HEADROOM } from "../../../src/base/channel.ts";
import { ReadAhead } from "../../../src/io/quic/read_ahead.ts";
import { MAX_READ_SIZE } from "../../../src/io/h3/read_size.ts";
import { pattern } from "../support.ts";

Deno.test("ReadAhead gives all bytes in order, never touches a view its consumer holds, reuses two buffers", async () => {
  const source = pattern(3_000_000);
  let offset = 0;
  let transfers = 0;
  const ahead = new ReadAhead((target) => {
    if (offset === source.length) return Promise.resolve(null);
    const length = Math.min(target.length, source.length - offset);
    // As the runtime does: the buffer moves, and the old object is detached.
    const moved = new Uint8Array(target.buffer.transfer(), HEADROOM, length);
    moved.set(source.subarray(offset, offset + length));
    offset += length;
    transfers++;
    return Promise.resolve(moved);
  });
  let read = 0;
  let largest = 0;
  for (let view = await ahead.next(); view !== null; view = await ahead.next()) {
    assert.ok(view.byteOffset >= HEADROOM);
    // Time for the read ahead to do harm.
    await Promise.resolve();
    for (let i = 0; i < view.length; i += 997) assert.equal(view[i], source[read + i]);
    read += view.length;
    largest = Math.max(largest, view.length);
  }
  assert.equal(read, source.length);
  assert.equal(largest, MAX_READ_SIZE);
  assert.ok(transfers < 60);
  assert.equal(await ahead.next(), null);
});

Deno.test("ReadAhead reads while its consumer is busy, and one buffer only", async () => {
  let reads = 0;
  const ahead = new ReadAhead((target) => {
    reads++;
    return Promise.resolve(target.subarray(0, 10));
  });
  assert.equal(reads, 0);
  await ahead.next();
  assert.equal(reads, 2);
  for (let i = 0; i < 10; i++) await Promise.resolve();
  assert.equal(reads, 2);
});

Deno.test("ReadAhead rejects where the stream broke, again and again, and not before", async () => {
  let reads = 0;
  const ahead = new ReadAhead((target) => {
    if (reads++ === 0) return Promise.resolve(target.subarray(0, 1));
    return Promise.reject(new Error("Broke"));
  });
  assert.equal((await ahead.next())!.length, 1);
  await assert.rejects(ahead.next(), /Broke/);
  await assert.rejects(ahead.next(), /Broke/);
});
