import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../../src/base/bytes.ts";
import { type Capsule, CapsuleReader, encodeCapsule } from "../../../src/wire/capsule/capsule.ts";
import { H3_DATAGRAM_ERROR, H3_MESSAGE_ERROR } from "../../../src/wire/h3/codes.ts";
import { encodeVarint } from "../../../src/wire/varint.ts";
import { assertDeclaredErrors, readCorpus, readVectors } from "../corpus.ts";

interface Vector {
  readonly hex: string;
  readonly type: number;
  readonly value: string;
}

const TRUNCATED = { code: "ERR_PROTOCOL", scope: "stream", wireCode: H3_MESSAGE_ERROR };
const TOO_LONG = { code: "ERR_PROTOCOL", scope: "stream", wireCode: H3_DATAGRAM_ERROR };

Deno.test("capsules read and write their layout [RFC9297-3.2]", () => {
  for (const { hex, type, value } of readVectors<Vector>("rfc9297/capsules.json").vectors) {
    const reader = new CapsuleReader({ maxLength: 100 });
    reader.push(fromHex(hex));
    assert.deepEqual(plain(reader.next()), { type, value });
    assert.equal(reader.next(), undefined);
    reader.end();
    const again = new CapsuleReader({ maxLength: 100 });
    again.push(encodeCapsule(type, fromHex(value)));
    assert.deepEqual(plain(again.next()), { type, value });
  }
});

Deno.test("capsules survive the round trip at every width of type and length", () => {
  for (const type of [0, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, 2 ** 53 - 1]) {
    for (const length of [0, 1, 63, 64, 16_383, 16_384]) {
      const value = new Uint8Array(length).fill(7);
      const reader = new CapsuleReader({ maxLength: 16_384 });
      reader.push(encodeCapsule(type, value));
      assert.deepEqual(plain(reader.next()), { type, value: toHex(value) });
      reader.end();
    }
  }
});

Deno.test("CapsuleReader refuses a stream that ends at any offset inside a capsule [RFC9297-3.3]", () => {
  for (const known of [undefined, new Set([0x2843])]) {
    for (const type of [0x2843, 0x17]) {
      const bytes = encodeCapsule(type, new Uint8Array(70));
      for (let cut = 1; cut < bytes.length; cut++) {
        const reader = new CapsuleReader({ maxLength: 100, ...(known && { known }) });
        reader.push(bytes.subarray(0, cut));
        assert.equal(reader.next(), undefined);
        assert.throws(() => reader.end(), TRUNCATED, `cut at ${cut}`);
      }
    }
  }
});

Deno.test("CapsuleReader refuses a stream that ends with one byte too many [RFC9297-3.3]", () => {
  const reader = new CapsuleReader({ maxLength: 100 });
  reader.push(concat([encodeCapsule(1, Uint8Array.of(1)), Uint8Array.of(0)]));
  assert.equal(reader.next()?.type, 1);
  assert.equal(reader.next(), undefined);
  assert.throws(() => reader.end(), TRUNCATED);
});

Deno.test("CapsuleReader refuses a known capsule above its limit as soon as it is announced", () => {
  for (const length of [101, 2 ** 30, 2 ** 53 - 1]) {
    const reader = new CapsuleReader({ maxLength: 100, known: new Set([5]) });
    reader.push(concat([Uint8Array.of(5), encodeVarint(length)]));
    assert.throws(() => reader.next(), TOO_LONG);
  }
});

Deno.test("CapsuleReader skips unknown capsules of any length and reads on [RFC9297-3.2]", () => {
  const reader = new CapsuleReader({ maxLength: 4, known: new Set([5]) });
  reader.push(encodeCapsule(6, new Uint8Array(1_000)));
  assert.equal(reader.next(), undefined);
  reader.end();
  const stream = concat([
    encodeCapsule(6, new Uint8Array(1_000)),
    encodeCapsule(5, Uint8Array.of(1)),
    encodeCapsule(7, new Uint8Array(0)),
    encodeCapsule(5, Uint8Array.of(2)),
  ]);
  reader.push(stream.subarray(0, 500));
  assert.equal(reader.next(), undefined);
  reader.push(stream.subarray(500));
  assert.deepEqual(plain(reader.next()), { type: 5, value: "01" });
  assert.deepEqual(plain(reader.next()), { type: 5, value: "02" });
  assert.equal(reader.next(), undefined);
  reader.end();
});

Deno.test("CapsuleReader reads any capsules from chunks of any size", () => {
  const capsule = fc.tuple(
    fc.constantFrom(0, 5, 6, 0x2843, 2 ** 40),
    fc.uint8Array({ maxLength: 90, size: "max" }),
  );
  fc.assert(fc.property(fc.array(capsule), fc.integer({ min: 1, max: 40 }), (capsules, size) => {
    const known = new Set([0, 5, 0x2843]);
    const expected = capsules.filter(([type]) => known.has(type))
      .map(([type, value]) => ({ type, value: toHex(value) }));
    const stream = concat(capsules.map(([type, value]) => encodeCapsule(type, value)));
    const reader = new CapsuleReader({ maxLength: 90, known });
    const read: unknown[] = [];
    for (let i = 0; i < stream.length; i += size) {
      reader.push(stream.subarray(i, i + size));
      for (let next = reader.next(); next !== undefined; next = reader.next()) read.push(plain(next));
    }
    reader.end();
    assert.deepEqual(read, expected);
  }));
});

Deno.test("CapsuleReader throws nothing but declared errors on any bytes", () => {
  const corpus = [...readCorpus("capsule").values()];
  const input = fc.oneof(fc.uint8Array({ maxLength: 60, size: "max" }), fc.constantFrom(...corpus));
  fc.assert(fc.property(input, fc.integer({ min: 1, max: 9 }), (bytes, size) => {
    for (const known of [undefined, new Set([0])]) {
      assertDeclaredErrors(["ERR_PROTOCOL"], () => {
        const reader = new CapsuleReader({ maxLength: 32, ...(known && { known }) });
        for (let i = 0; i < bytes.length; i += size) {
          reader.push(bytes.subarray(i, i + size));
          for (let next = reader.next(); next !== undefined; next = reader.next()) {
            assert.ok(next.value.length <= 32);
          }
        }
        reader.end();
      });
    }
  }));
});

function plain(capsule: Capsule | undefined): { type: number; value: string } | undefined {
  return capsule && { type: capsule.type, value: toHex(capsule.value) };
}
