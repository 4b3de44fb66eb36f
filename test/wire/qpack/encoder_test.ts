import assert from "node:assert/strict";
import { toHex } from "../../../src/base/bytes.ts";
import { encodeFieldSection } from "../../../src/wire/qpack/encoder.ts";

Deno.test("encodeFieldSection() takes one byte for a field of the static table", () => {
  assert.equal(toHex(encodeFieldSection([[":method", "CONNECT"], [":status", "200"]])), "0000cfd9");
  assert.equal(toHex(encodeFieldSection([])), "0000");
});

Deno.test("encodeFieldSection() refers to a static name and uses Huffman only where it is shorter", () => {
  assert.equal(toHex(encodeFieldSection([[":status", "502"]])), "00005f09826c02");
  assert.equal(toHex(encodeFieldSection([[":path", "{{{"]])), "000051037b7b7b");
  assert.equal(toHex(encodeFieldSection([[":path", "X"]])), "0000510158");
});

Deno.test("encodeFieldSection() marks credentials as never to be indexed [RFC9204-4.5.4]", () => {
  const name = (fields: readonly [string, string]) => encodeFieldSection([fields])[2] as number;
  assert.equal(name(["authorization", "Bearer x"]) & 0b0111_0000, 0b0111_0000);
  assert.equal(name(["proxy-authorization", "Bearer x"]) & 0b0011_0000, 0b0011_0000);
  assert.equal(name(["user-agent", "x"]) & 0b0111_0000, 0b0101_0000);
});

Deno.test("encodeFieldSection() refuses characters that are not bytes", () => {
  assert.throws(() => encodeFieldSection([["x", "\u0100"]]), TypeError);
  assert.throws(() => encodeFieldSection([["\u20ac", ""]]), TypeError);
});
