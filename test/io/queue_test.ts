import assert from "node:assert/strict";
import { Queue } from "../../src/io/queue.ts";

Deno.test("Queue gives what was pushed, in order, and ends when closed and empty", async () => {
  const queue = new Queue<number>();
  queue.push(1);
  queue.push(2);
  const taken: number[] = [];
  const consumer = (async () => {
    for await (const item of queue) {
      taken.push(item);
      if (item === 2) {
        queue.push(3);
        queue.close();
      }
    }
  })();
  await consumer;
  assert.deepEqual(taken, [1, 2, 3]);
});

Deno.test("Queue wakes a consumer that waits, for an item and for the end", async () => {
  const queue = new Queue<string>();
  const items = queue[Symbol.asyncIterator]();
  const first = items.next();
  queue.push("a");
  assert.deepEqual(await first, { value: "a", done: false });
  const end = items.next();
  queue.close();
  assert.equal((await end).done, true);
});

Deno.test("Queue drops the oldest beyond its capacity, also when nobody is told", async () => {
  const dropped: number[] = [];
  for (const onDrop of [(item: number) => void dropped.push(item), undefined]) {
    const queue = new Queue<number>({ capacity: 2, ...(onDrop && { onDrop }) });
    for (const item of [1, 2, 3, 4]) queue.push(item);
    queue.close();
    const left: number[] = [];
    for await (const item of queue) left.push(item);
    assert.deepEqual(left, [3, 4]);
  }
  assert.deepEqual(dropped, [1, 2]);
});

Deno.test("Queue drops what its consumer left behind and everything after the end", async () => {
  const dropped: number[] = [];
  const queue = new Queue<number>({ onDrop: (item) => dropped.push(item) });
  for (const item of [1, 2, 3]) queue.push(item);
  for await (const item of queue) if (item === 1) break;
  queue.push(4);
  assert.deepEqual(dropped, [2, 3, 4]);
});
