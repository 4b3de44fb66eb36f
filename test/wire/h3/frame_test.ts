import assert from "node:assert/strict";
import * as fc from "fast-check";
import { concat, fromHex, toHex } from "../../../src/base/bytes.ts";
import { H3_FRAME_ERROR } from "../../../src/wire/h3/codes.ts";
import {
  encodeFrame,
  type FramePart,
  FrameReader,
  type FrameRule,
  readVarintPayload,
} from "../../../src/wire/h3/frame.ts";
import { assertProtocolError, pieces, wire } from "./support.ts";

Deno.test("encodeFrame() writes type, length, payload", () => {
  assert.equal(toHex(encodeFrame(0x00, fromHex("aabb"))), "0002aabb");
  assert.equal(toHex(encodeFrame(0x4242, new Uint8Array(0))), "8000424200");
});

Deno.test("FrameReader collects, streams and skips by its rule, however the bytes are cut", () => {
  const stream = concat([
    encodeFrame(1, fromHex("010203")),
    encodeFrame(0x21, new Uint8Array(300)),
    encodeFrame(0, fromHex("0a0b0c0d")),
    encodeFrame(1, new Uint8Array(0)),
    encodeFrame(0, new Uint8Array(0)),
    encodeFrame(0x3fff_ffff, fromHex("ff")),
    encodeFrame(1, new Uint8Array(5000).fill(7)),
  ]);
  for (const size of [1, 2, 3, 7, 100, stream.length]) {
    const { collected, streamed } = readAll(pieces(stream, size));
    assert.deepEqual(collected.map((bytes) => bytes.length), [3, 0, 5000], `pieces of ${size}`);
    assert.equal(toHex(collected[0]!), "010203");
    assert.ok(collected[2]!.every((byte) => byte === 7));
    assert.equal(toHex(streamed), "0a0b0c0d");
  }
});

Deno.test("FrameReader streams without copying", () => {
  const chunk = encodeFrame(0, new Uint8Array(1000));
  const reader = new FrameReader(() => "stream");
  reader.push(chunk);
  assert.equal(reader.next()!.bytes.buffer, chunk.buffer);
});

Deno.test("FrameReader shows a frame's declared length to its rule before it keeps any of it", () => {
  const seen: number[] = [];
  const reader = new FrameReader((_type, length) => {
    seen.push(length);
    throw new RangeError("Refused by the rule");
  });
  reader.push(wire(1, 2 ** 50));
  assert.throws(() => reader.next(), RangeError);
  assert.deepEqual(seen, [2 ** 50]);
});

Deno.test("FrameReader knows at every byte whether it is inside a frame", () => {
  const frame = encodeFrame(0x21, fromHex("aabbcc"));
  const reader = new FrameReader(() => "skip");
  for (const [index, piece] of pieces(concat([frame, frame]), 1).entries()) {
    reader.push(piece);
    assert.equal(reader.next(), undefined);
    assert.equal(reader.midFrame, (index + 1) % frame.length !== 0, `after ${index + 1} bytes`);
  }
});

Deno.test("FrameReader refuses a push over unread frames", () => {
  const reader = new FrameReader(() => "collect");
  reader.push(encodeFrame(1, fromHex("aa")));
  assert.throws(() => reader.push(fromHex("00")), TypeError);
});

Deno.test("FrameReader gives back any sequence of frames, cut anywhere", () => {
  const frames = fc.array(fc.tuple(fc.constantFrom(0, 1, 0x21), fc.uint8Array({ maxLength: 600 })));
  fc.assert(fc.property(frames, fc.integer({ min: 1, max: 40 }), (list, size) => {
    const stream = concat(list.map(([type, payload]) => encodeFrame(type, payload)));
    const { collected, streamed } = readAll(pieces(stream, size));
    const expected = list.filter(([type]) => type === 1).map(([, payload]) => toHex(payload));
    assert.deepEqual(collected.map(toHex), expected);
    assert.equal(toHex(streamed), list.filter(([type]) => type === 0).map(([, p]) => toHex(p)).join(""));
  }));
});

Deno.test("readVarintPayload() takes exactly one integer [RFC9114-7.1]", () => {
  assert.equal(readVarintPayload(fromHex("25")), 37);
  assert.equal(readVarintPayload(fromHex("c2197c5eff14e88c")), 151_288_809_941_952_652);
  for (const bad of ["", "40", "2500", "c2197c5eff14e8", "4000aa"]) {
    assertProtocolError(() => readVarintPayload(fromHex(bad)), { scope: "connection", code: H3_FRAME_ERROR });
  }
});

const RULES: Readonly<Record<number, FrameRule>> = { 0: "stream", 1: "collect" };

function readAll(chunks: readonly Uint8Array<ArrayBuffer>[]): {
  collected: Uint8Array[];
  streamed: Uint8Array;
} {
  const reader = new FrameReader((type) => RULES[type] ?? "skip");
  const collected: Uint8Array[] = [];
  const streamed: Uint8Array[] = [];
  for (const chunk of chunks) {
    reader.push(chunk);
    let part: FramePart | undefined;
    while ((part = reader.next()) !== undefined) {
      (part.type === 1 ? collected : streamed).push(part.bytes.slice());
    }
  }
  assert.equal(reader.midFrame, false);
  return { collected, streamed: concat(streamed) };
}
