import assert from "node:assert/strict";
import { concat, toHex } from "../../../src/base/bytes.ts";
import { HEADROOM } from "../../../src/base/channel.ts";
import type { ProtocolError } from "../../../src/base/errors.ts";
import { allocateWithHeadroom } from "../../../src/base/headroom.ts";
import { MessageChannel } from "../../../src/io/h3/message_channel.ts";
import { rejectRequest } from "../../../src/io/h3/rejection.ts";
import { FRAME_DATA, H3_FRAME_UNEXPECTED } from "../../../src/wire/h3/codes.ts";
import { encodeFrame } from "../../../src/wire/h3/frame.ts";
import { MessageDecoder } from "../../../src/wire/h3/message_decoder.ts";
import type { Field } from "../../../src/wire/qpack/static_table.ts";
import { GET_FIELDS, headersFrame, wire } from "../../wire/h3/support.ts";
import { pattern, readAll, text } from "../support.ts";
import { FakePipe, type FakePipeOptions } from "./fake_pipe.ts";

const CONNECT: readonly Field[] = [[":method", "CONNECT"], [":authority", "db:5432"]];

Deno.test("MessageChannel reads head and content that come byte by byte", async () => {
  const { channel } = open(
    concat([headersFrame(CONNECT), data("hel"), encodeFrame(0x21, wire(0)), data("lo")]),
  );
  const event = await channel.readHead();
  assert.ok(event.kind === "request" && event.head.authority === "db:5432");
  assert.equal(text(await readAll(channel)), "hello");
});

Deno.test("MessageChannel reads what was read before it", async () => {
  const stream = concat([headersFrame(CONNECT), data("hello")]);
  for (const cut of [1, headersFrame(CONNECT).length, stream.length]) {
    const pipe = new FakePipe(stream.subarray(cut));
    const channel = new MessageChannel(pipe, {
      ...REQUEST,
      rest: stream.slice(0, cut),
      onConnectionError: assert.fail,
    });
    await channel.readHead();
    assert.equal(text(await readAll(channel)), "hello", `cut at ${cut}`);
  }
});

Deno.test("MessageChannel's views have headroom of their own buffer in front", async () => {
  const { channel } = open(concat([headersFrame(CONNECT), data("one"), data("two")]), { size: 1000 });
  await channel.readHead();
  for (const expected of ["one", "two"]) {
    const view = await channel.read();
    assert.equal(text(view), expected);
    assert.ok(view!.byteOffset >= HEADROOM);
    // What the contract allows a consumer to do.
    new Uint8Array(view!.buffer, view!.byteOffset - HEADROOM, HEADROOM).fill(0xff);
  }
});

Deno.test("MessageChannel frames what is written, and writes no more than once for it", async () => {
  const { channel, pipe } = open(new Uint8Array(0));
  const content = pattern(100_000);
  for (const length of [1, 63, 64, 16_383, 16_384, 100_000]) await channel.write(content.subarray(0, length));
  assert.equal(pipe.writes.length, 6);
  assert.equal(toHex(pipe.writes[1]!.subarray(0, 3)), "003f" + toHex(content.subarray(0, 1)));
  const decoder = new MessageDecoder({ reads: "response", method: "CONNECT", maxFieldSectionSize: 1000 });
  decoder.push(concat([headersFrame([[":status", "200"]]), pipe.written]));
  let read = 0;
  for (let event = decoder.next(); event !== undefined; event = decoder.next()) {
    if (event.kind === "data") read += event.bytes.length;
  }
  assert.equal(read, 1 + 63 + 64 + 16_383 + 16_384 + 100_000);
});

Deno.test("MessageChannel touches nothing outside the bytes it is given, unless their buffer is marked", async () => {
  const { channel, pipe } = open(new Uint8Array(0));
  const pool = new Uint8Array(300).fill(0xaa);
  await channel.write(pool.subarray(100, 200));
  assert.ok(pool.every((byte) => byte === 0xaa));

  const marked = allocateWithHeadroom(100).fill(0xbb);
  await channel.write(marked);
  // Its frame's header now stands in front of it: nothing was copied.
  assert.equal(toHex(new Uint8Array(marked.buffer, HEADROOM - 3, 3)), "004064");
  assert.deepEqual(pipe.writes[0]!.subarray(0, 3), pipe.writes[1]!.subarray(0, 3));
  assert.equal(pipe.writes[1]!.length, 103);
});

Deno.test("MessageChannel sends nothing for an empty write", async () => {
  const { channel, pipe } = open(new Uint8Array(0));
  await channel.write(new Uint8Array(0));
  assert.equal(pipe.writes.length, 0);
});

Deno.test("MessageChannel sends head, content and end together", async () => {
  const { channel, pipe } = open(new Uint8Array(0));
  await channel.sendHead([[":status", "200"]], { body: wire("hi"), end: true });
  assert.equal(pipe.writes.length, 1);
  assert.equal(toHex(pipe.written), toHex(concat([headersFrame([[":status", "200"]]), data("hi")])));
  assert.ok(pipe.writeClosed);
});

Deno.test("MessageChannel is done when both directions have ended, once", async () => {
  let done = 0;
  const pipe = new FakePipe(concat([headersFrame(CONNECT), data("x")]));
  const channel = new MessageChannel(pipe, {
    ...REQUEST,
    onConnectionError: assert.fail,
    onDone: () => done++,
  });
  await channel.readHead();
  await channel.closeWrite();
  await channel.closeWrite();
  assert.equal(done, 0);
  await readAll(channel);
  assert.equal(await channel.read(), null);
  channel.abort();
  assert.equal(done, 1);
});

Deno.test("MessageChannel reports a connection's error before it rejects, and gives the stream up", async () => {
  const { channel, pipe, errors } = open(concat([headersFrame(CONNECT), data("x"), headersFrame(CONNECT)]));
  await channel.readHead();
  assert.equal(text(await channel.read()), "x");
  await assert.rejects(channel.read(), { code: "ERR_CHANNEL_RESET" });
  assert.deepEqual(errors.map(({ wireCode }) => wireCode), [H3_FRAME_UNEXPECTED]);
  assert.ok(pipe.aborted);
});

Deno.test("MessageChannel keeps a stream's error to the stream", async () => {
  const { channel, errors } = open(headersFrame([...GET_FIELDS, ["content-length", "1"]]));
  await channel.readHead();
  await assert.rejects(channel.read(), { code: "ERR_CHANNEL_RESET" });
  assert.deepEqual(errors, []);
});

Deno.test("MessageChannel passes a reset on", async () => {
  const { channel } = open(concat([headersFrame(CONNECT), data("x")]), { end: "reset" });
  await channel.readHead();
  assert.equal(text(await channel.read()), "x");
  await assert.rejects(channel.read(), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("rejectRequest() answers what can be answered and gives up the rest", async () => {
  const answered: readonly [stream: Uint8Array, status: string][] = [
    [headersFrame([[":method", "GET"]]), "400"],
    [wire(1, 100_000), "431"],
  ];
  for (const [stream, status] of answered) {
    const { channel, pipe } = open(stream);
    await rejectRequest(channel, await channel.readHead().catch((error) => error));
    assert.equal(toHex(pipe.written), toHex(headersFrame([[":status", status]])));
    assert.ok(pipe.writeClosed && pipe.readCancelled && !pipe.aborted);
  }
  for (const options of [{ end: "reset" } as const, {}]) {
    const { channel, pipe } = open(data("x").subarray(0, options.end === "reset" ? 0 : 3), options);
    await rejectRequest(channel, await channel.readHead().catch((error) => error));
    assert.ok(pipe.aborted && pipe.writes.length === 0);
  }
});

const REQUEST = { reads: "request", maxFieldSectionSize: 16_384 } as const;

function open(stream: Uint8Array, options: FakePipeOptions = {}) {
  const pipe = new FakePipe(stream, options);
  const errors: ProtocolError[] = [];
  const channel = new MessageChannel(pipe, { ...REQUEST, onConnectionError: (error) => errors.push(error) });
  return { pipe, channel, errors };
}

function data(content: string): Uint8Array<ArrayBuffer> {
  return encodeFrame(FRAME_DATA, wire(content));
}
