import assert from "node:assert/strict";
import fc from "fast-check";
import { fromHex, toHex } from "../../src/base/bytes.ts";
import { H3_DATAGRAM_ERROR } from "../../src/wire/h3/codes.ts";
import { decodeHttpDatagram } from "../../src/wire/http_datagram.ts";
import { assertDeclaredErrors, readCorpus, readVectors } from "./corpus.ts";
import { encodeHttpDatagram } from "./encode_http_datagram.ts";

const REFUSED = { code: "ERR_PROTOCOL", scope: "connection", wireCode: H3_DATAGRAM_ERROR };

interface Vector {
  readonly hex: string;
  readonly streamId: number;
  readonly payload: string;
}

Deno.test("HTTP Datagrams read and write their layout at every width [RFC9297-2.1]", () => {
  for (const { hex, streamId, payload } of readVectors<Vector>("rfc9297/datagrams.json").vectors) {
    assert.equal(toHex(encodeHttpDatagram(streamId, fromHex(payload))), hex);
    const decoded = decodeHttpDatagram(fromHex(hex));
    assert.deepEqual({ ...decoded, payload: toHex(decoded.payload) }, { streamId, payload });
  }
});

Deno.test("decodeHttpDatagram() refuses a frame cut at any offset inside the stream id [RFC9297-2.1]", () => {
  for (const hex of ["3f", "7fff", "bfffffff", "cfffffffffffffff"]) {
    const bytes = fromHex(hex);
    for (let cut = 0; cut < bytes.length; cut++) {
      assert.throws(() => decodeHttpDatagram(bytes.subarray(0, cut)), REFUSED, `${hex} cut at ${cut}`);
    }
    assert.equal(decodeHttpDatagram(bytes).payload.length, 0);
  }
});

Deno.test("decodeHttpDatagram() refuses a quarter stream id above 2^60-1 [RFC9297-2.1]", () => {
  assert.equal(decodeHttpDatagram(fromHex("cfffffffffffffff")).streamId, 2 ** 62);
  for (const hex of ["d000000000000000", "e000000000000000", "ffffffffffffffff"]) {
    assert.throws(() => decodeHttpDatagram(fromHex(hex)), REFUSED, hex);
  }
});

Deno.test("HTTP Datagrams of any request and payload survive the round trip", () => {
  const quarter = fc.maxSafeNat().map((id) => Math.floor(id / 4));
  fc.assert(fc.property(quarter, fc.uint8Array(), (quarter, payload) => {
    const decoded = decodeHttpDatagram(encodeHttpDatagram(4 * quarter, payload));
    assert.equal(decoded.streamId, 4 * quarter);
    assert.equal(toHex(decoded.payload), toHex(payload));
  }));
});

Deno.test("decodeHttpDatagram() throws nothing but declared errors on any bytes", () => {
  const corpus = [...readCorpus("http_datagram").values()];
  const input = fc.oneof(fc.uint8Array({ maxLength: 12, size: "max" }), fc.constantFrom(...corpus));
  fc.assert(fc.property(input, (bytes) => {
    assertDeclaredErrors(["ERR_PROTOCOL"], () => {
      const { streamId, payload } = decodeHttpDatagram(Uint8Array.from(bytes));
      assert.equal(streamId % 4, 0);
      assert.ok(payload.length < bytes.length);
    });
  }));
});
