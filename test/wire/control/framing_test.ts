import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex, utf8 } from "../../../src/base/bytes.ts";
import { encodeMessage, MAX_MESSAGE, MessageReader } from "../../../src/wire/control/framing.ts";
import { H3_EXCESSIVE_LOAD, H3_GENERAL_PROTOCOL_ERROR } from "../../../src/wire/h3/codes.ts";
import { encodeVarint } from "../../../src/wire/varint.ts";
import { assertDeclaredErrors, readCorpus } from "../corpus.ts";

const NOT_A_MESSAGE = { code: "ERR_PROTOCOL", scope: "stream", wireCode: H3_GENERAL_PROTOCOL_ERROR };

Deno.test("encodeMessage() puts the length in front of the JSON", () => {
  assert.equal(toHex(encodeMessage({ a: 1 })), "07" + toHex(utf8('{"a":1}')));
});

Deno.test("messages survive the round trip at every width of the length", () => {
  for (const length of [2, 63, 64, 65, 16_383, MAX_MESSAGE]) {
    const message = length === 2 ? {} : { k: "x".repeat(length - 8) };
    const bytes = encodeMessage(message);
    const reader = new MessageReader();
    reader.push(bytes);
    assert.deepEqual(reader.next(), message);
    assert.equal(reader.next(), undefined);
  }
  assert.throws(() => encodeMessage({ k: "x".repeat(MAX_MESSAGE - 7) }), RangeError);
});

Deno.test("MessageReader returns nothing for a message cut at any offset, then the rest of it", () => {
  const bytes = encodeMessage({ text: "é".repeat(40) });
  for (let cut = 0; cut < bytes.length; cut++) {
    const reader = new MessageReader();
    reader.push(bytes.subarray(0, cut));
    assert.equal(reader.next(), undefined, `cut at ${cut}`);
    reader.push(bytes.subarray(cut));
    assert.deepEqual(reader.next(), { text: "é".repeat(40) });
  }
});

Deno.test("MessageReader reads any messages from chunks of any size", () => {
  const messages = fc.array(fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 3 }), { maxLength: 8 });
  fc.assert(fc.property(messages, fc.integer({ min: 1, max: 50 }), (messages, size) => {
    const plain: unknown[] = messages.map((message) => JSON.parse(JSON.stringify(message)));
    const stream = concat(messages.map(encodeMessage));
    const reader = new MessageReader();
    const read: unknown[] = [];
    for (let i = 0; i < stream.length; i += size) {
      reader.push(stream.subarray(i, i + size));
      for (let next = reader.next(); next !== undefined; next = reader.next()) read.push(next);
    }
    assert.deepEqual(read, plain);
  }));
});

Deno.test("MessageReader gives the bytes behind a header back as they are", () => {
  const reader = new MessageReader();
  reader.push(concat([encodeMessage({ header: true }), Uint8Array.of(0xff, 0, 1)]));
  assert.deepEqual(reader.next(), { header: true });
  assert.deepEqual([...reader.rest()], [0xff, 0, 1]);
  assert.equal(reader.rest().length, 0);
});

Deno.test("MessageReader refuses a message that is too long before it comes", () => {
  for (const length of [MAX_MESSAGE + 1, 2 ** 30, 2 ** 53 - 1]) {
    const reader = new MessageReader();
    reader.push(encodeVarint(length));
    assert.throws(() => reader.next(), { scope: "stream", wireCode: H3_EXCESSIVE_LOAD });
  }
});

Deno.test("MessageReader refuses what is no JSON object in UTF-8", () => {
  for (const json of ["", "null", "1", '"x"', "[]", "{", "{}{}", "{}x", '{"a":\u0000}']) {
    const reader = new MessageReader();
    reader.push(concat([encodeVarint(utf8(json).length), utf8(json)]));
    assert.throws(() => reader.next(), NOT_A_MESSAGE, json);
  }
  const reader = new MessageReader();
  reader.push(fromHex("07 7b2261223a22ff227d".replace("07", "08")));
  assert.throws(() => reader.next(), NOT_A_MESSAGE);
});

Deno.test("MessageReader survives 16 KiB of brackets", () => {
  const reader = new MessageReader();
  reader.push(concat([encodeVarint(MAX_MESSAGE), new Uint8Array(MAX_MESSAGE).fill(0x5b)]));
  assert.throws(() => reader.next(), NOT_A_MESSAGE);
});

Deno.test("MessageReader throws nothing but declared errors on any bytes", () => {
  const corpus = [...readCorpus("control_framing").values()];
  const input = fc.oneof(fc.uint8Array({ maxLength: 80, size: "max" }), fc.constantFrom(...corpus));
  fc.assert(fc.property(input, fc.integer({ min: 1, max: 9 }), (bytes, size) => {
    assertDeclaredErrors(["ERR_PROTOCOL"], () => {
      const reader = new MessageReader();
      for (let i = 0; i < bytes.length; i += size) {
        reader.push(bytes.subarray(i, i + size));
        while (reader.next() !== undefined);
      }
    });
  }));
});
