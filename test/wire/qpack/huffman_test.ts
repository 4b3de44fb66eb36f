import assert from "node:assert/strict";
import fc from "fast-check";
import { fromHex, toHex } from "../../../src/base/bytes.ts";
import { huffmanSize, readHuffman, writeHuffman } from "../../../src/wire/qpack/huffman.ts";
import { readVectors } from "../corpus.ts";

type CodeWord = readonly [hex: string, bits: number];
const CODE_WORDS = readVectors<CodeWord>("rfc7541/code_words.json").vectors.map(([hex, bits]) =>
  Number.parseInt(hex, 16).toString(2).padStart(bits, "0")
);
const EOS = CODE_WORDS[256] as string;

Deno.test("Huffman strings read and write the RFC's examples [RFC7541-5.2]", () => {
  for (const { text, hex } of readVectors<{ text: string; hex: string }>("rfc7541/huffman.json").vectors) {
    assert.equal(toHex(encode(text)), hex);
    assert.equal(decode(fromHex(hex)), text);
  }
});

Deno.test("Huffman code words are those of the RFC for every symbol [RFC7541-5.2]", () => {
  for (let symbol = 0; symbol < 256; symbol++) {
    const bytes = pack(CODE_WORDS[symbol] as string);
    const text = String.fromCharCode(symbol);
    assert.equal(toHex(encode(text)), toHex(bytes), `symbol ${symbol}`);
    assert.equal(decode(bytes), text);
  }
});

Deno.test("readHuffman() refuses EOS in the data [RFC7541-5.2]", () => {
  assert.equal(decode(pack(EOS)), undefined);
  assert.equal(decode(pack(CODE_WORDS[97] + EOS + CODE_WORDS[97])), undefined);
});

Deno.test("readHuffman() refuses padding of 8 bits and more, and padding with a zero [RFC7541-5.2]", () => {
  const a = CODE_WORDS[97] as string; // 5 bits: needs 3 bits of padding
  assert.equal(decode(pack(a)), "a");
  assert.equal(decode(pack(a + "1".repeat(11))), undefined);
  assert.equal(decode(fromHex("ff")), undefined);
  for (const padding of ["000", "110", "101", "011"]) {
    assert.equal(decode(pack(a + padding)), undefined, padding);
  }
});

Deno.test("Huffman strings of any bytes survive the round trip and match a bit-by-bit encoder", () => {
  const byte = fc.integer({ min: 0, max: 255 });
  fc.assert(fc.property(fc.array(byte, { maxLength: 60, size: "max" }), (symbols) => {
    const text = String.fromCharCode(...symbols);
    const bytes = encode(text);
    assert.equal(toHex(bytes), toHex(pack(symbols.map((symbol) => CODE_WORDS[symbol]).join(""))));
    assert.equal(decode(bytes), text);
  }));
});

Deno.test("readHuffman() accepts any bytes only if they encode back to themselves", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40, size: "max" }), (bytes) => {
    const text = decode(bytes);
    if (text !== undefined) assert.equal(toHex(encode(text)), toHex(bytes));
  }));
});

function encode(text: string): Uint8Array {
  const target = new Uint8Array(huffmanSize(text));
  assert.equal(writeHuffman(target, 0, text), target.length);
  return target;
}

function decode(bytes: Uint8Array): string | undefined {
  const target = new Uint8Array(Math.ceil(bytes.length * 8 / 5));
  const length = readHuffman(bytes, target, { start: 0, end: bytes.length });
  return length < 0 ? undefined : String.fromCharCode(...target.subarray(0, length));
}

/** Packs a string of bits, padded with ones. */
function pack(bits: string): Uint8Array {
  const padded = bits.padEnd(Math.ceil(bits.length / 8) * 8, "1");
  return Uint8Array.from(padded.match(/.{8}/g) ?? [], (group) => Number.parseInt(group, 2));
}
