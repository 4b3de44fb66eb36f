import assert from "node:assert/strict";
import * as fc from "fast-check";
import { HEADROOM } from "../../../src/base/channel.ts";
import { FillAhead } from "../../../src/io/tls/fill_ahead.ts";
import { MAX_READ_SIZE } from "../../../src/io/h3/read_size.ts";
import { pattern } from "../support.ts";

/** As large as a TLS record gets, and so what one read of the runtime brings at most. */
const RECORD = 16_384;

Deno.test("FillAhead gives all bytes in order and never touches a view its consumer holds", async () => {
  const source = pattern(2_000_000);
  const schedule = fc.array(fc.tuple(fc.integer({ min: 1, max: RECORD }), fc.integer({ min: 0, max: 6 })), {
    minLength: 1,
  });
  await fc.assert(
    fc.asyncProperty(schedule, async (steps) => {
      let offset = 0;
      let step = 0;
      const size = Math.min(source.length, 20_000 * steps.length);
      const ahead = new FillAhead(async (target) => {
        const [most, ticks] = steps[step++ % steps.length]!;
        for (let i = 0; i < ticks; i++) await Promise.resolve();
        const length = Math.min(target.length, most, size - offset);
        target.set(source.subarray(offset, offset + length));
        offset += length;
        return length === 0 ? null : length;
      });
      let read = 0;
      for (let view = await ahead.next(); view !== null; view = await ahead.next()) {
        assert.ok(view.byteOffset >= HEADROOM && view.length > 0);
        // A consumer may write into the headroom and takes its time.
        new Uint8Array(view.buffer, view.byteOffset - HEADROOM, HEADROOM).fill(0xff);
        for (let i = 0; i < steps[read % steps.length]![1]; i++) await Promise.resolve();
        for (let i = 0; i < view.length; i++) {
          if (view[i] !== source[read + i]) assert.fail(`byte ${read + i} is wrong`);
        }
        read += view.length;
      }
      assert.equal(read, size);
    }),
    { numRuns: 50 },
  );
});

Deno.test("FillAhead gathers what comes while its consumer is busy, and no more than a buffer", async () => {
  let filled = 0;
  const ahead = new FillAhead((target) => {
    const length = Math.min(target.length, RECORD);
    filled += length;
    return Promise.resolve(length);
  });
  let read = 0;
  let largest = 0;
  for (let i = 0; i < 20; i++) {
    const view = (await ahead.next())!;
    read += view.length;
    largest = Math.max(largest, view.length);
    for (let tick = 0; tick < 100; tick++) await Promise.resolve();
    assert.ok(filled - read <= MAX_READ_SIZE, `${filled - read} bytes read ahead`);
  }
  assert.ok(largest > RECORD, `${largest}`);
});

Deno.test("FillAhead reports the end and a failure behind the bytes before them", async () => {
  for (const failure of [undefined, new Error("Broke")]) {
    let reads = 0;
    const ahead = new FillAhead(() => {
      if (reads++ < 2) return Promise.resolve(5);
      return failure === undefined ? Promise.resolve(null) : Promise.reject(failure);
    });
    let read = 0;
    while (read < 10) read += (await ahead.next())!.length;
    for (let again = 0; again < 2; again++) {
      if (failure === undefined) assert.equal(await ahead.next(), null);
      else await assert.rejects(ahead.next(), /Broke/);
    }
  }
});
