import assert from "node:assert/strict";
import fc from "fast-check";
import { fromHex, toHex } from "../../../src/base/bytes.ts";
import { ProtocolError } from "../../../src/base/errors.ts";
import { QPACK_DECOMPRESSION_FAILED } from "../../../src/wire/h3/codes.ts";
import {
  MAX_PREFIX_INT_SIZE,
  type PrefixBits,
  PrefixIntReader,
  writePrefixInt,
} from "../../../src/wire/qpack/prefix_int.ts";
import { readVectors } from "../corpus.ts";

const ALL_BITS: readonly PrefixBits[] = [3, 4, 5, 6, 7, 8];

interface Vector {
  readonly hex: string;
  readonly bits: PrefixBits;
  readonly value: number;
}

Deno.test("prefix integers read and write the RFC's examples [RFC7541-5.1]", () => {
  for (const { hex, bits, value } of readVectors<Vector>("rfc7541/integers.json").vectors) {
    assert.equal(toHex(encode(value, bits)), hex);
    assert.equal(decode(fromHex(hex), bits), value);
  }
});

Deno.test("prefix integers survive the round trip at every boundary of every prefix", () => {
  for (const bits of ALL_BITS) {
    const full = 2 ** bits - 1;
    for (const value of [0, full - 1, full, full + 127, full + 128, full + 16_383, full + 16_384, 2 ** 31]) {
      const bytes = encode(value, bits);
      assert.ok(bytes.length <= MAX_PREFIX_INT_SIZE);
      assert.equal(decode(bytes, bits), value);
      for (let cut = 1; cut < bytes.length; cut++) {
        assert.equal(decode(bytes.subarray(0, cut), bits), undefined);
      }
    }
  }
});

Deno.test("writePrefixInt() keeps the flags above the prefix", () => {
  const target = new Uint8Array(MAX_PREFIX_INT_SIZE);
  writePrefixInt(target, 0, { value: 2, bits: 4, flags: 0x50 });
  assert.equal(target[0], 0x52);
  writePrefixInt(target, 0, { value: 2000, bits: 4, flags: 0x50 });
  assert.equal(target[0], 0x5f);
  assert.equal(decode(target, 4), 2000);
});

Deno.test("PrefixIntReader reads 62 bits and refuses more [RFC7541-5.1]", () => {
  const largest = fromHex("ff80feffffffffffff3f");
  assert.equal(decode(largest, 8), 2 ** 62);
  for (const tooLong of ["ffffffffffffffffffff01", "ff80808080808080808000", "ffffffffffffffffff60"]) {
    assert.throws(() => decode(fromHex(tooLong), 8), { wireCode: QPACK_DECOMPRESSION_FAILED });
  }
});

Deno.test("PrefixIntReader agrees with exact arithmetic on any bytes", () => {
  const input = fc.tuple(
    fc.constantFrom(...ALL_BITS),
    fc.uint8Array({ minLength: 1, maxLength: 12, size: "max" }),
  );
  fc.assert(fc.property(input, ([bits, bytes]) => {
    let value: number | undefined;
    try {
      value = decode(bytes, bits);
    } catch (error) {
      assert.ok(error instanceof ProtocolError);
      assert.ok(bytes.length > 9);
      return;
    }
    if (value !== undefined && value < 2 ** 53) assert.equal(BigInt(value), exact(bytes, bits));
  }));
});

function encode(value: number, bits: PrefixBits): Uint8Array {
  const target = new Uint8Array(MAX_PREFIX_INT_SIZE);
  return target.subarray(0, writePrefixInt(target, 0, { value, bits, flags: 0 }));
}

function decode(bytes: Uint8Array, bits: PrefixBits): number | undefined {
  const reader = new PrefixIntReader(QPACK_DECOMPRESSION_FAILED);
  let complete = reader.begin(bytes[0] as number, bits);
  for (let i = 1; !complete && i < bytes.length; i++) complete = reader.push(bytes[i] as number);
  return complete ? reader.value : undefined;
}

/** The same number by the book, in integers of any size. */
function exact(bytes: Uint8Array, bits: PrefixBits): bigint {
  const full = 2 ** bits - 1;
  const prefix = (bytes[0] as number) & full;
  let value = BigInt(prefix);
  if (prefix < full) return value;
  for (const [i, byte] of bytes.subarray(1).entries()) {
    value += BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) break;
  }
  return value;
}
