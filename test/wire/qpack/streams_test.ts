import assert from "node:assert/strict";
import fc from "fast-check";
import { fromHex } from "../../../src/base/bytes.ts";
import { QPACK_DECODER_STREAM_ERROR, QPACK_ENCODER_STREAM_ERROR } from "../../../src/wire/h3/codes.ts";
import { QpackDecoderStreamReader, QpackEncoderStreamReader } from "../../../src/wire/qpack/streams.ts";
import { assertDeclaredErrors, readCorpus } from "../corpus.ts";

const ENCODER_ERROR = { scope: "connection", wireCode: QPACK_ENCODER_STREAM_ERROR };
const DECODER_ERROR = { scope: "connection", wireCode: QPACK_DECODER_STREAM_ERROR };

Deno.test("QpackEncoderStreamReader takes capacity 0, whole or byte by byte [RFC9204-4.3.1]", () => {
  pushBytes(new QpackEncoderStreamReader(), "20 20 20");
});

Deno.test("QpackEncoderStreamReader refuses a capacity above 0 [RFC9204-4.3.1]", () => {
  for (const hex of ["21", "3e", "3f00", "3fe11f", "203fffffffff7f"]) {
    assert.throws(() => new QpackEncoderStreamReader().push(fromHex(hex)), ENCODER_ERROR, hex);
    assert.throws(() => pushBytes(new QpackEncoderStreamReader(), hex), ENCODER_ERROR, hex);
  }
});

Deno.test("QpackEncoderStreamReader refuses inserts and duplicates at their first byte [RFC9204-3.2.2]", () => {
  for (const first of [0x00, 0x1f, 0x40, 0x7f, 0x80, 0xc0, 0xff]) {
    assert.throws(() => new QpackEncoderStreamReader().push(Uint8Array.of(first)), ENCODER_ERROR);
  }
});

Deno.test("QpackDecoderStreamReader takes cancellations of any stream", () => {
  pushBytes(new QpackDecoderStreamReader(), "48 7f01 7fffffffffffffffff3f 40");
});

Deno.test("QpackDecoderStreamReader refuses acknowledgments [RFC9204-4.4.1]", () => {
  for (const hex of ["80", "4484", "ff00"]) {
    assert.throws(() => pushBytes(new QpackDecoderStreamReader(), hex), DECODER_ERROR);
  }
});

Deno.test("QpackDecoderStreamReader refuses every insert count increment [RFC9204-4.4.3]", () => {
  for (const hex of ["00", "01", "3f00"]) {
    assert.throws(() => pushBytes(new QpackDecoderStreamReader(), hex), DECODER_ERROR);
  }
});

Deno.test("QPACK stream readers refuse integers without end", () => {
  const endless = new Uint8Array(64).fill(0x80);
  const encoder = new QpackEncoderStreamReader();
  encoder.push(Uint8Array.of(0x3f));
  assert.throws(() => encoder.push(endless), ENCODER_ERROR);
  const decoder = new QpackDecoderStreamReader();
  decoder.push(Uint8Array.of(0x7f));
  assert.throws(() => decoder.push(endless), DECODER_ERROR);
});

Deno.test("QPACK stream readers say the same whole and byte by byte, and throw only declared errors", () => {
  const corpus = [...readCorpus("qpack_streams").values()];
  const input = fc.oneof(fc.uint8Array({ maxLength: 32, size: "max" }), fc.constantFrom(...corpus));
  fc.assert(fc.property(input, (bytes) => {
    for (const create of [() => new QpackEncoderStreamReader(), () => new QpackDecoderStreamReader()]) {
      assert.equal(outcome(() => create().push(bytes)), outcome(() => push(create(), bytes)));
    }
  }));
});

function outcome(run: () => void): string {
  let message = "accepted";
  assertDeclaredErrors(["ERR_PROTOCOL"], () => {
    try {
      run();
    } catch (error) {
      message = String(error);
      throw error;
    }
  });
  return message;
}

function pushBytes(reader: { push(bytes: Uint8Array): void }, hex: string): void {
  push(reader, fromHex(hex));
}

function push(reader: { push(bytes: Uint8Array): void }, bytes: Uint8Array): void {
  for (const byte of bytes) reader.push(Uint8Array.of(byte));
}
