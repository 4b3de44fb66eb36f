import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../../src/base/bytes.ts";
import { encodeCapsule } from "../../../src/wire/capsule/capsule.ts";
import {
  DATA_CAPSULE,
  FINAL_DATA_CAPSULE,
  TCP_CAPSULE_HEADER_SIZE,
  TcpCapsuleReader,
  writeTcpCapsuleHeader,
} from "../../../src/wire/capsule/connect_tcp.ts";
import { H3_CONNECT_ERROR, H3_MESSAGE_ERROR } from "../../../src/wire/h3/codes.ts";
import { assertDeclaredErrors, readCorpus } from "../corpus.ts";

const MALFORMED = { code: "ERR_PROTOCOL", scope: "stream", wireCode: H3_MESSAGE_ERROR };
const CUT_SHORT = { code: "ERR_PROTOCOL", scope: "stream", wireCode: H3_CONNECT_ERROR };

Deno.test("writeTcpCapsuleHeader() writes type and length in eight bytes wherever it is told", () => {
  const target = new Uint8Array(12).fill(0xaa);
  assert.equal(writeTcpCapsuleHeader(target, 2, { length: 10, final: true }), 2 + TCP_CAPSULE_HEADER_SIZE);
  assert.equal(toHex(target), "aaaa" + "a028d7f1" + "8000000a" + "aaaa");
  writeTcpCapsuleHeader(target.subarray(2), 0, { length: 2 ** 30 - 1, final: false });
  assert.equal(toHex(target), "aaaa" + "a028d7f0" + "bfffffff" + "aaaa");
});

Deno.test("writeTcpCapsuleHeader() refuses lengths it cannot carry", () => {
  for (const length of [-1, 0.5, 2 ** 30, NaN]) {
    assert.throws(() => writeTcpCapsuleHeader(new Uint8Array(8), 0, { length, final: false }), RangeError);
  }
});

Deno.test("TcpCapsuleReader takes the stream out of DATA and FINAL_DATA, skipping the rest [RFC9297-3.2]", () => {
  const reader = new TcpCapsuleReader();
  const pieces = reader.push(
    concat([data("one"), encodeCapsule(0x17, new Uint8Array(99)), data(""), data("two")]),
  );
  assert.equal(text(pieces), "onetwo");
  assert.equal(reader.finished, false);
  assert.equal(text(reader.push(final("three"))), "three");
  assert.equal(reader.finished, true);
  const skipped = encodeCapsule(0x17, Uint8Array.of(1, 2));
  assert.equal(text(reader.push(skipped.slice(0, 3))), "");
  assert.equal(reader.finished, true);
  reader.push(skipped.slice(3));
  reader.end();
});

Deno.test("TcpCapsuleReader hands out views of the chunk, none empty", () => {
  const reader = new TcpCapsuleReader();
  const chunk = concat([data("abc"), data(""), data("d")]);
  const pieces = reader.push(chunk);
  assert.deepEqual(pieces.map((piece) => piece.length), [3, 1]);
  assert.ok(pieces.every((piece) => piece.buffer === chunk.buffer));
});

Deno.test("TcpCapsuleReader delivers a capsule too large for memory as it comes", () => {
  const reader = new TcpCapsuleReader();
  const header = new Uint8Array(TCP_CAPSULE_HEADER_SIZE);
  writeTcpCapsuleHeader(header, 0, { length: 2 ** 30 - 1, final: true });
  assert.deepEqual(reader.push(header), []);
  for (let i = 0; i < 10; i++) assert.equal(reader.push(new Uint8Array(1_000))[0]?.length, 1_000);
  assert.equal(reader.finished, false);
  assert.throws(() => reader.end(), MALFORMED);
});

Deno.test("TcpCapsuleReader is finished only with the last byte of FINAL_DATA", () => {
  const bytes = final("xyz");
  const reader = new TcpCapsuleReader();
  for (let i = 0; i < bytes.length; i++) {
    assert.equal(reader.finished, false, `after ${i} bytes`);
    reader.push(bytes.slice(i, i + 1));
  }
  assert.equal(reader.finished, true);
  const empty = new TcpCapsuleReader();
  empty.push(final(""));
  assert.equal(empty.finished, true);
  empty.end();
});

Deno.test("TcpCapsuleReader tells a truncated capsule at every offset from a missing end [RFC9297-3.3]", () => {
  const bytes = concat([data("one"), final("two")]);
  const firstEnd = data("one").length;
  for (let cut = 0; cut < bytes.length; cut++) {
    const reader = new TcpCapsuleReader();
    reader.push(bytes.slice(0, cut));
    const boundary = cut === 0 || cut === firstEnd;
    assert.throws(() => reader.end(), boundary ? CUT_SHORT : MALFORMED, `cut at ${cut}`);
  }
});

Deno.test("TcpCapsuleReader refuses data behind FINAL_DATA, even none", () => {
  for (const more of [data("x"), data(""), final(""), final("x")]) {
    const reader = new TcpCapsuleReader();
    reader.push(final("end"));
    assert.throws(() => reader.push(more), MALFORMED);
  }
});

Deno.test("TcpCapsuleReader gives the same stream whatever the chunks and capsules", () => {
  const payload = fc.uint8Array({ maxLength: 50, size: "max" });
  const other = fc.constant(encodeCapsule(0x29, Uint8Array.of(1, 2, 3)));
  const part = fc.oneof(
    payload.map((bytes) => ({ bytes, framed: encodeCapsule(DATA_CAPSULE, bytes) })),
    other.map((framed) => ({ bytes: new Uint8Array(0), framed })),
  );
  fc.assert(fc.property(fc.array(part), payload, fc.integer({ min: 1, max: 30 }), (parts, last, size) => {
    const expected = concat([...parts.map(({ bytes }) => bytes), last]);
    const stream = concat([...parts.map(({ framed }) => framed), encodeCapsule(FINAL_DATA_CAPSULE, last)]);
    const reader = new TcpCapsuleReader();
    const read: Uint8Array[] = [];
    for (let i = 0; i < stream.length; i += size) read.push(...reader.push(stream.slice(i, i + size)));
    reader.end();
    assert.equal(toHex(concat(read)), toHex(expected));
  }));
});

Deno.test("TcpCapsuleReader throws nothing but declared errors on any bytes", () => {
  const corpus = [...readCorpus("connect_tcp").values()];
  const input = fc.oneof(fc.uint8Array({ maxLength: 60, size: "max" }), fc.constantFrom(...corpus));
  fc.assert(fc.property(input, fc.integer({ min: 1, max: 9 }), (bytes, size) => {
    assertDeclaredErrors(["ERR_PROTOCOL"], () => {
      const reader = new TcpCapsuleReader();
      let delivered = 0;
      for (let i = 0; i < bytes.length; i += size) {
        for (const piece of reader.push(bytes.slice(i, i + size))) delivered += piece.length;
      }
      assert.ok(delivered <= bytes.length);
      reader.end();
    });
  }));
});

Deno.test("TcpCapsuleReader reads another implementation's FINAL_DATA", () => {
  const reader = new TcpCapsuleReader();
  assert.equal(text(reader.push(fromHex("a028d7f10a 646f776e73747265616d"))), "downstream");
  reader.end();
});

function data(payload: string): Uint8Array<ArrayBuffer> {
  return encodeCapsule(DATA_CAPSULE, new TextEncoder().encode(payload));
}

function final(payload: string): Uint8Array<ArrayBuffer> {
  return encodeCapsule(FINAL_DATA_CAPSULE, new TextEncoder().encode(payload));
}

function text(pieces: readonly Uint8Array[]): string {
  return new TextDecoder().decode(concat(pieces));
}
