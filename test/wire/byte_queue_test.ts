import assert from "node:assert/strict";
import fc from "fast-check";
import { ByteQueue } from "../../src/wire/byte_queue.ts";

Deno.test("ByteQueue keeps a copy of what it is given", () => {
  const queue = new ByteQueue();
  const bytes = Uint8Array.of(1, 2, 3);
  queue.push(bytes);
  bytes.fill(9);
  assert.deepEqual([...queue.bytes], [1, 2, 3]);
});

Deno.test("ByteQueue refuses to give more than it has", () => {
  const queue = new ByteQueue();
  queue.push(Uint8Array.of(1));
  assert.throws(() => queue.take(2), RangeError);
  assert.equal(queue.length, 1);
});

Deno.test("ByteQueue never overwrites what it gave away", () => {
  const queue = new ByteQueue();
  queue.push(new Uint8Array(100).fill(1));
  const taken = queue.take(100);
  for (let i = 0; i < 50; i++) {
    queue.push(new Uint8Array(100).fill(2));
    queue.take(100);
  }
  assert.ok(taken.every((byte) => byte === 1));
});

Deno.test("ByteQueue behaves like an array of bytes", () => {
  const operation = fc.oneof(
    fc.uint8Array({ maxLength: 600, size: "max" }).map((bytes) => ({ push: bytes })),
    fc.nat(600).map((count) => ({ take: count })),
  );
  fc.assert(fc.property(fc.array(operation, { maxLength: 40, size: "max" }), (operations) => {
    const queue = new ByteQueue();
    const model: number[] = [];
    for (const operation of operations) {
      if ("push" in operation) {
        queue.push(operation.push);
        model.push(...operation.push);
      } else {
        const count = Math.min(operation.take, model.length);
        assert.deepEqual([...queue.take(count)], model.splice(0, count));
      }
      assert.equal(queue.length, model.length);
      assert.deepEqual([...queue.bytes], model);
    }
  }));
});
