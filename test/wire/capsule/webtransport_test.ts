import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex, utf8 } from "../../../src/base/bytes.ts";
import { CapsuleReader } from "../../../src/wire/capsule/capsule.ts";
import {
  CLOSE_WEBTRANSPORT_SESSION,
  decodeCloseSession,
  encodeCloseSession,
} from "../../../src/wire/capsule/webtransport.ts";
import { H3_MESSAGE_ERROR } from "../../../src/wire/h3/codes.ts";
import { assertDeclaredErrors, readCorpus } from "../corpus.ts";

const MALFORMED = { code: "ERR_PROTOCOL", scope: "stream", wireCode: H3_MESSAGE_ERROR };

Deno.test("encodeCloseSession() writes code and reason", () => {
  assert.equal(toHex(encodeCloseSession({ code: 17, reason: "bye" })), "684307" + "00000011" + "627965");
  assert.equal(toHex(encodeCloseSession({ code: 0xffff_ffff, reason: "" })), "684304" + "ffffffff");
});

Deno.test("session closes survive the round trip", () => {
  const fields = { code: fc.nat(0xffff_ffff), reason: fc.string({ unit: "grapheme", maxLength: 100 }) };
  fc.assert(fc.property(fc.record(fields, { noNullPrototype: true }), (close) => {
    assert.deepEqual(decodeCloseSession(valueOf(encodeCloseSession(close))), close);
  }));
});

Deno.test("encodeCloseSession() cuts a reason above 1024 bytes between characters", () => {
  for (
    const [reason, kept] of [["x".repeat(1025), 1024], ["x" + "é".repeat(512), 1023], [
      "🦊".repeat(300),
      1024,
    ]] as const
  ) {
    const decoded = decodeCloseSession(valueOf(encodeCloseSession({ code: 1, reason })));
    assert.equal(utf8(decoded.reason).length, kept);
    assert.ok(reason.startsWith(decoded.reason));
  }
});

Deno.test("encodeCloseSession() refuses codes that are not 32 bits", () => {
  for (const code of [-1, 2 ** 32, 0.5, NaN]) {
    assert.throws(() => encodeCloseSession({ code, reason: "" }), RangeError);
  }
});

Deno.test("decodeCloseSession() refuses values cut inside the code, too long, or not UTF-8", () => {
  for (
    const value of [
      fromHex(""),
      fromHex("000000"),
      new Uint8Array(1029),
      fromHex("00000000ff"),
      fromHex("00000000c3"),
    ]
  ) {
    assert.throws(() => decodeCloseSession(value), MALFORMED, toHex(value.subarray(0, 8)));
  }
  assert.equal(decodeCloseSession(new Uint8Array(1028)).reason.length, 1024);
});

Deno.test("decodeCloseSession() reads a view in the middle of a buffer", () => {
  const bytes = concat([fromHex("ffff"), fromHex("0000000761")]);
  assert.deepEqual(decodeCloseSession(bytes.subarray(2)), { code: 7, reason: "a" });
});

Deno.test("decodeCloseSession() throws nothing but declared errors on any bytes", () => {
  const corpus = [...readCorpus("webtransport_close").values()];
  fc.assert(fc.property(fc.oneof(fc.uint8Array(), fc.constantFrom(...corpus)), (bytes) => {
    assertDeclaredErrors(["ERR_PROTOCOL"], () => decodeCloseSession(bytes));
  }));
});

function valueOf(capsule: Uint8Array): Uint8Array {
  const reader = new CapsuleReader({ maxLength: 1028 });
  reader.push(capsule);
  const { type, value } = reader.next() ?? assert.fail("no capsule");
  assert.equal(type, CLOSE_WEBTRANSPORT_SESSION);
  reader.end();
  return value;
}
