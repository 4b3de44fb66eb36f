import assert from "node:assert/strict";
import fc from "fast-check";
import { fromHex, toHex } from "../../src/base/bytes.ts";
import {
  encodeVarint,
  MAX_VARINT,
  readVarint,
  readVarintBig,
  varintLength,
  varintSize,
  writeVarint,
  writeVarintBig,
} from "../../src/wire/varint.ts";
import { readVectors } from "./corpus.ts";

interface Vector {
  readonly hex: string;
  readonly value: string;
  readonly shortest: boolean;
}

const BOUNDARIES = [0, 1, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];

Deno.test("varints read and write the RFC's examples [RFC9000-16]", () => {
  for (const { hex, value, shortest } of readVectors<Vector>("rfc9000/varint.json").vectors) {
    const bytes = fromHex(hex);
    assert.equal(varintLength(bytes[0] as number), bytes.length);
    assert.equal(readVarint(bytes, 0), Number(value));
    assert.equal(readVarintBig(bytes, 0), BigInt(value));
    if (!shortest) continue;
    const target = new Uint8Array(8);
    assert.equal(writeVarintBig(target, 0, BigInt(value)), bytes.length);
    assert.equal(toHex(target.subarray(0, bytes.length)), hex);
  }
});

Deno.test("varints survive the round trip at every width boundary", () => {
  const sizes = [1, 1, 1, 2, 2, 4, 4, 8, 8, 8, 8];
  for (const [i, value] of BOUNDARIES.entries()) {
    const bytes = encodeVarint(value);
    assert.equal(bytes.length, sizes[i], `${value}`);
    assert.equal(varintSize(value), sizes[i]);
    assert.equal(readVarint(bytes, 0), value);
    assert.equal(readVarintBig(bytes, 0), BigInt(value));
  }
});

Deno.test("writeVarint() leaves the bytes around the number alone", () => {
  for (const value of BOUNDARIES) {
    const target = new Uint8Array(12).fill(0xaa);
    const end = writeVarint(target, 2, value);
    assert.equal(end, 2 + varintSize(value));
    assert.deepEqual([...target.subarray(0, 2)], [0xaa, 0xaa]);
    assert.ok(target.subarray(end).every((byte) => byte === 0xaa));
    assert.equal(readVarint(target, 2), value);
  }
});

Deno.test("varints refuse what they cannot carry", () => {
  for (const value of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
    assert.throws(() => varintSize(value), RangeError, `${value}`);
    assert.throws(() => encodeVarint(value), RangeError);
  }
  assert.throws(() => writeVarintBig(new Uint8Array(8), 0, MAX_VARINT + 1n), RangeError);
  assert.throws(() => writeVarintBig(new Uint8Array(8), 0, -1n), RangeError);
});

Deno.test("writeVarint() and writeVarintBig() refuse a target that is too short", () => {
  for (const value of [1, 64, 16_384, 2 ** 30]) {
    const size = varintSize(value);
    assert.throws(() => writeVarint(new Uint8Array(size - 1), 0, value), RangeError);
    assert.throws(() => writeVarint(new Uint8Array(size), 1, value), RangeError);
  }
  assert.throws(() => writeVarintBig(new Uint8Array(7), 0, MAX_VARINT), RangeError);
});

Deno.test("readVarint() rounds ids above 2^53-1, readVarintBig() does not", () => {
  const bytes = new Uint8Array(8).fill(0xff);
  assert.equal(readVarintBig(bytes, 0), MAX_VARINT);
  assert.equal(readVarint(bytes, 0), 2 ** 62);
});

Deno.test("varints of any 62-bit value survive the round trip", () => {
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: MAX_VARINT }), (value) => {
    const target = new Uint8Array(8);
    const end = writeVarintBig(target, 0, value);
    assert.equal(varintLength(target[0] as number), end);
    assert.equal(readVarintBig(target, 0), value);
    assert.equal(readVarint(target, 0), Number(value));
  }));
});
