/** Sealed flows as byte channels: bytes, half-close, reset and every way to end. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { utf8, utf8Decode } from "../../src/base/bytes.ts";
import { HEADROOM } from "../../src/base/channel.ts";
import { MAX_RECORD_DATA, RECORD_OVERHEAD, RECORD_TYPE } from "../../src/dataplane/record.ts";
import { readAll } from "../support/channel_pair.ts";
import { sealedFlow } from "../support/sealed_flow.ts";
import { sessionPair } from "../support/session_pair.ts";

Deno.test("bytes cross a sealed flow both ways in any pieces", async () => {
  await using session = await sessionPair();
  const size = fc.integer({ min: 1, max: 3 * MAX_RECORD_DATA });
  const property = fc.asyncProperty(
    fc.array(size, { maxLength: 4 }),
    fc.array(size, { maxLength: 4 }),
    fc.infiniteStream(fc.integer({ min: 1, max: 100_000 })),
    async (forth, back, cuts) => {
      const { agent, connector } = await sealedFlow(session, { readSize: () => cuts.next().value! });
      const send = async (from: typeof agent, sizes: readonly number[]) => {
        for (const length of sizes) await from.write(pattern(length));
        await from.closeWrite();
      };
      const [, , atConnector, atAgent] = await Promise.all([
        send(agent, forth),
        send(connector, back),
        readAll(connector),
        readAll(agent),
      ]);
      assert.deepEqual(atConnector, joinPatterns(forth));
      assert.deepEqual(atAgent, joinPatterns(back));
    },
  );
  await fc.assert(property, { numRuns: 25 });
});

Deno.test("one write becomes records of at most MAX_RECORD_DATA, and views keep their headroom", async () => {
  await using session = await sessionPair();
  const lengths: number[] = [];
  const { agent, connector } = await sealedFlow(session, {
    toConnector: (unit) => {
      if (unit?.type === RECORD_TYPE.DATA) lengths.push(unit.bytes.length - RECORD_OVERHEAD);
      return unit === undefined ? [] : [unit.bytes];
    },
  });
  const writing = agent.write(pattern(2 * MAX_RECORD_DATA + 1)).then(() => agent.closeWrite());
  let view: Uint8Array | null;
  while ((view = await connector.read()) !== null) assert.ok(view.byteOffset >= HEADROOM);
  await writing;
  assert.deepEqual(lengths, [MAX_RECORD_DATA, MAX_RECORD_DATA, 1]);
  await connector.closeWrite();
  assert.equal(await agent.read(), null);
});

Deno.test("an empty write sends nothing", async () => {
  await using session = await sessionPair();
  const types: number[] = [];
  const { agent, connector } = await sealedFlow(session, {
    toConnector: (unit) => {
      if (unit !== undefined) types.push(unit.type);
      return unit === undefined ? [] : [unit.bytes];
    },
  });
  await agent.write(new Uint8Array(0));
  await agent.closeWrite();
  assert.equal(await connector.read(), null);
  assert.deepEqual(types, [0, RECORD_TYPE.OPEN, RECORD_TYPE.FIN]);
  await connector.closeWrite();
  assert.equal(await agent.read(), null);
});

Deno.test("half-close lets the other direction live on", async () => {
  await using session = await sessionPair();
  const { agent, connector } = await sealedFlow(session);
  await agent.closeWrite();
  await agent.closeWrite();
  assert.equal(await connector.read(), null);
  assert.equal(await connector.read(), null);
  await assert.rejects(agent.write(utf8("late")), TypeError);
  await connector.write(utf8("answer"));
  assert.equal(utf8Decode((await agent.read())!), "answer");
  await connector.closeWrite();
  assert.equal(await agent.read(), null);
});

Deno.test("abort() reaches the other end's reader and writer as a reset", async () => {
  await using session = await sessionPair();
  for (const abortLooksClean of [false, true]) {
    const { agent, connector } = await sealedFlow(session, { abortLooksClean });
    const reading = connector.read();
    agent.abort(new Error("local socket was reset"));
    agent.abort();
    await assert.rejects(reading, { code: "ERR_CHANNEL_RESET" });
    await assert.rejects(connector.write(utf8("x")), { code: "ERR_CHANNEL_RESET" });
    await assert.rejects(agent.read(), { code: "ERR_CHANNEL_RESET" });
    await assert.rejects(agent.write(utf8("x")), { code: "ERR_CHANNEL_RESET" });
    await assert.rejects(agent.closeWrite(), { code: "ERR_CHANNEL_RESET" });
  }
});

Deno.test("abort() rejects a read that is under way", async () => {
  await using session = await sessionPair();
  const { agent, connector } = await sealedFlow(session);
  const reading = agent.read();
  agent.abort();
  await assert.rejects(reading, { code: "ERR_CHANNEL_RESET" });
  await assert.rejects(connector.read(), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("a reset after our own half-close still reaches the other end", async () => {
  await using session = await sessionPair();
  const { agent, connector } = await sealedFlow(session, { abortLooksClean: true });
  await agent.closeWrite();
  assert.equal(await connector.read(), null);
  const broken = Promise.withResolvers<Error>();
  connector.onBreak(broken.resolve);
  agent.abort();
  assert.equal((await broken.promise as Error & { code: string }).code, "ERR_CHANNEL_RESET");
  await assert.rejects(connector.write(utf8("x")), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("abort() behind a write that cannot move tears the stream down all the same", async () => {
  await using session = await sessionPair();
  const { agent, connector } = await sealedFlow(session, { capacity: 1_000 });
  const writing = agent.write(pattern(500_000));
  agent.abort();
  await assert.rejects(writing, { code: "ERR_CHANNEL_RESET" });
  connector.abort();
});

Deno.test("abort() after both directions ended takes nothing back", async () => {
  await using session = await sessionPair();
  const { agent, connector } = await sealedFlow(session);
  await connector.closeWrite();
  await agent.write(utf8("last words"));
  const ending = agent.closeWrite();
  assert.equal(await agent.read(), null);
  await ending;
  agent.abort();
  assert.equal(utf8Decode(await readAll(connector)), "last words");
});

Deno.test("the end of the session ends its flows at both ends", async () => {
  const session = await sessionPair();
  const { agent, connector } = await sealedFlow(session);
  const broken: string[] = [];
  agent.onBreak((error) => broken.push((error as Error & { code: string }).code));
  agent.onBreak(() => broken.push("forgotten"))();
  const readings = Promise.allSettled([agent.read(), connector.read()]);
  session.connector.close("revoked");
  for (const result of await readings) {
    assert.ok(result.status === "rejected");
    assert.match(result.reason.code, /^ERR_(SESSION_CLOSED|CHANNEL_RESET)$/);
  }
  await session.agent.closed;
  assert.equal(broken.length, 1);
  await assert.rejects(connector.write(utf8("x")), { code: "ERR_SESSION_CLOSED" });
});

Deno.test("one byte there and back takes few turns of the microtask queue", async () => {
  await using session = await sessionPair();
  const { agent, connector } = await sealedFlow(session);
  void (async () => {
    let chunk: Uint8Array | null;
    while ((chunk = await connector.read()) !== null) await connector.write(chunk);
    await connector.closeWrite();
  })();
  let done = false;
  const echo = (async () => {
    await agent.write(Uint8Array.of(1));
    assert.deepEqual([...(await agent.read())!], [1]);
    done = true;
  })();
  let turns = 0;
  for (; !done && turns < 1_000; turns++) await undefined;
  await echo;
  // Mostly the memory channels and the relay between; no timer or macrotask may hide in it.
  assert.ok(turns < 150, `${turns} turns`);
  await agent.closeWrite();
  assert.equal(await agent.read(), null);
});

function pattern(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = i * 31 + (i >> 8);
  return bytes;
}

function joinPatterns(sizes: readonly number[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  let offset = 0;
  for (const size of sizes) {
    all.set(pattern(size), offset);
    offset += size;
  }
  return all;
}
