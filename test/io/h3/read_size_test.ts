import assert from "node:assert/strict";
import { MAX_READ_SIZE, MIN_READ_SIZE, ReadSize } from "../../../src/io/h3/read_size.ts";

Deno.test("ReadSize grows to its maximum while reads fill the buffer, and shrinks back when they do not", () => {
  const size = new ReadSize();
  assert.equal(size.current, MIN_READ_SIZE);
  for (let i = 0; i < 10; i++) size.adapt(size.current, size.current);
  assert.equal(size.current, MAX_READ_SIZE);
  for (let i = 0; i < 1000; i++) size.adapt(1, size.current);
  assert.equal(size.current, MIN_READ_SIZE);
});

Deno.test("ReadSize does not shrink for a few small reads among large ones", () => {
  const size = new ReadSize();
  for (let i = 0; i < 10; i++) size.adapt(size.current, size.current);
  for (let i = 0; i < 1000; i++) size.adapt(i % 20 === 0 ? 40_000 : 1, size.current);
  assert.equal(size.current, MAX_READ_SIZE);
});
