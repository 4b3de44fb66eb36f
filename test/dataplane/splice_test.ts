/** The splice: every byte once and in order, half-close, reset, abort, idleness, back-pressure. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { utf8, utf8Decode } from "../../src/base/bytes.ts";
import type { ByteChannel } from "../../src/base/channel.ts";
import { splice } from "../../src/dataplane/splice.ts";
import { channelPair, type MemoryChannel } from "../support/channel_pair.ts";
import { sealedFlow } from "../support/sealed_flow.ts";
import { sessionPair } from "../support/session_pair.ts";

/** What one of the two outer ends does next. */
type Step =
  | { readonly end: 0 | 1; readonly do: "write"; readonly length: number }
  | { readonly end: 0 | 1; readonly do: "closeWrite" }
  | { readonly end: 0 | 1; readonly do: "abort" };

/** The specification: what each end may read, and how the splice ends. */
class Model {
  readonly sent: [number, number] = [0, 0];
  readonly isEnded: [boolean, boolean] = [false, false];
  isBroken = false;
  /** The end that aborted had half-closed: a plain channel tells of it only when somebody writes. */
  isQuiet = false;

  apply(step: Step): boolean {
    if (this.isBroken || this.isOver) return false;
    if (step.do === "abort") {
      this.isBroken = true;
      this.isQuiet = this.isEnded[step.end];
    } else if (this.isEnded[step.end]) return false;
    else if (step.do === "closeWrite") this.isEnded[step.end] = true;
    else this.sent[step.end] += step.length;
    return true;
  }

  get isOver(): boolean {
    return this.isEnded[0] && this.isEnded[1];
  }
}

Deno.test("splice() agrees with its model on any order of writes, half-closes and resets", async () => {
  const end = fc.constantFrom<0 | 1>(0, 1);
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        end,
        do: fc.constant("write" as const),
        length: fc.integer({ min: 1, max: 3_000 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ end, do: fc.constant("closeWrite" as const) }) },
    { weight: 1, arbitrary: fc.record({ end, do: fc.constant("abort" as const) }) },
  );
  const property = fc.asyncProperty(
    fc.array(step, { maxLength: 30 }),
    fc.infiniteStream(fc.integer({ min: 1, max: 2_000 })),
    fc.integer({ min: 1, max: 4_000 }),
    async (steps, cuts, capacity) => {
      const options = { capacity, readSize: () => cuts.next().value! };
      const [left, a] = channelPair(options);
      const [b, right] = channelPair(options);
      const ends: [MemoryChannel, MemoryChannel] = [left, right];
      const readers = ends.map((channel) => new Reader(channel));
      const result = splice(a, b);
      const model = new Model();
      for (const step of steps) {
        if (!model.apply(step)) continue;
        const channel = ends[step.end];
        if (step.do === "write") {
          await channel.write(pattern(step.length, model.sent[step.end] - step.length));
        } else if (step.do === "closeWrite") await channel.closeWrite();
        else channel.abort();
      }
      if (!model.isBroken || model.isQuiet) {
        for (const channel of ends) await channel.closeWrite();
      }
      const [{ outcome, bytesAtoB, bytesBtoA }, ...read] = await Promise.all([
        result,
        ...readers.map((reader) => reader.done),
      ]);
      if (!model.isQuiet) assert.equal(outcome, model.isBroken ? "reset" : "closed");
      for (const [index, { ended, bytes, good }] of read.entries()) {
        const sent = model.sent[1 - index]!;
        assert.ok(good, "bytes differ");
        assert.ok(bytes <= sent);
        // A clean end is believed only after everything that was sent.
        if (ended === "clean") assert.equal(bytes, sent);
        if (!model.isBroken) assert.equal(ended, "clean");
      }
      if (!model.isBroken) assert.deepEqual([bytesAtoB, bytesBtoA], model.sent);
    },
  );
  await fc.assert(property, { numRuns: 300 });
});

Deno.test("splice() half-closes one direction and goes on with the other", async () => {
  const { left, right, result } = spliced();
  await left.write(utf8("request"));
  await left.closeWrite();
  assert.equal(utf8Decode((await right.read())!), "request");
  assert.equal(await right.read(), null);
  await right.write(utf8("answer"));
  assert.equal(utf8Decode((await left.read())!), "answer");
  await right.closeWrite();
  assert.equal(await left.read(), null);
  assert.deepEqual(await result, { bytesAtoB: 7, bytesBtoA: 6, outcome: "closed" });
});

Deno.test("splice() hands a reset on, whichever side it comes from", async () => {
  for (const from of ["left", "right"] as const) {
    const { left, right, result } = spliced();
    const [resetting, other] = from === "left" ? [left, right] : [right, left];
    const reading = other.read();
    resetting.abort();
    await assert.rejects(reading, { code: "ERR_CHANNEL_RESET" });
    const { outcome, error } = await result;
    assert.equal(outcome, "reset");
    assert.equal((error as { code: string }).code, "ERR_CHANNEL_RESET");
  }
});

Deno.test("splice() tells of a sealed flow's reset even after that side's half-close", async () => {
  await using session = await sessionPair();
  const { agent, connector } = await sealedFlow(session);
  const [upstream, service] = channelPair();
  const result = splice(connector, upstream);
  await agent.closeWrite();
  assert.equal(await service.read(), null);
  agent.abort();
  assert.equal((await result).outcome, "reset");
  await assert.rejects(service.write(utf8("x")), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("splice() ends with its signal, at once or before it began", async () => {
  const reason = new Error("right withdrawn");
  const controller = new AbortController();
  const { left, right, result } = spliced({ signal: controller.signal });
  const readings = Promise.allSettled([left.read(), right.read()]);
  controller.abort(reason);
  assert.deepEqual(await result, { bytesAtoB: 0, bytesBtoA: 0, outcome: "aborted", error: reason });
  for (const { status } of await readings) assert.equal(status, "rejected");

  const late = spliced({ signal: AbortSignal.abort(reason) });
  assert.equal((await late.result).outcome, "aborted");
  await assert.rejects(late.left.read(), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("splice() ends when nothing moves for the idle time-out", async () => {
  const { left, result } = spliced({ idleTimeout: 20 });
  await left.write(utf8("x"));
  const { outcome, error, bytesAtoB } = await result;
  assert.deepEqual([outcome, (error as { code: string }).code, bytesAtoB], ["aborted", "ERR_FLOW_IDLE", 1]);
});

Deno.test("splice() reports each chunk", async () => {
  const chunks: [string, number][] = [];
  const { left, right, result } = spliced({
    onBytes: (direction, length) => chunks.push([direction, length]),
  });
  await left.write(utf8("abc"));
  await left.closeWrite();
  while (await right.read() !== null);
  await right.write(utf8("de"));
  await right.closeWrite();
  while (await left.read() !== null);
  await result;
  assert.deepEqual(chunks, [["aToB", 3], ["bToA", 2]]);
});

Deno.test("splice() reads no further than its bound ahead of a stalled writer", async () => {
  let readTotal = 0;
  const endless: ByteChannel = {
    read: () => Promise.resolve(new Uint8Array(1_000)).then((chunk) => (readTotal += chunk.length, chunk)),
    write: () => Promise.resolve(),
    closeWrite: () => Promise.resolve(),
    abort: () => {},
  };
  const stalled: ByteChannel = {
    read: () => new Promise(() => {}),
    write: () => new Promise(() => {}),
    closeWrite: () => Promise.resolve(),
    abort: () => {},
  };
  const controller = new AbortController();
  const result = splice(endless, stalled, { signal: controller.signal });
  for (let turn = 0; turn < 1_000; turn++) await undefined;
  assert.ok(readTotal <= 2_000, `${readTotal} bytes were read`);
  controller.abort();
  assert.equal((await result).outcome, "aborted");
});

/** Reads a channel to its end, checking the pattern. */
class Reader {
  readonly done: Promise<
    { readonly ended: "clean" | "reset"; readonly bytes: number; readonly good: boolean }
  >;

  constructor(channel: ByteChannel) {
    this.done = this.#run(channel);
  }

  async #run(channel: ByteChannel) {
    let bytes = 0;
    let good = true;
    try {
      let chunk: Uint8Array | null;
      while ((chunk = await channel.read()) !== null) {
        good &&= chunk.every((byte, i) => byte === patternByte(bytes + i));
        bytes += chunk.length;
      }
      return { ended: "clean" as const, bytes, good };
    } catch {
      return { ended: "reset" as const, bytes, good };
    }
  }
}

function spliced(options: Parameters<typeof splice>[2] = {}) {
  const [left, a] = channelPair();
  const [b, right] = channelPair();
  return { left, right, result: splice(a, b, options) };
}

function pattern(length: number, start: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => patternByte(start + i));
}

function patternByte(position: number): number {
  return (position * 31 + (position >> 8)) & 0xff;
}
