/**
 * What the tests of HTTP/3 share: building frames by hand, feeding bytes one at a time, expecting wire codes.
 */

import assert from "node:assert/strict";
import * as fc from "fast-check";
import { concat } from "../../../src/base/bytes.ts";
import { ProtocolError, type ProtocolScope } from "../../../src/base/errors.ts";
import { FRAME_HEADERS } from "../../../src/wire/h3/codes.ts";
import { encodeFrame } from "../../../src/wire/h3/frame.ts";
import { encodeFieldSection } from "../../../src/wire/qpack/encoder.ts";
import type { Field } from "../../../src/wire/qpack/static_table.ts";
import { encodeVarint } from "../../../src/wire/varint.ts";

/** A HEADERS frame. */
export function headersFrame(fields: readonly Field[]): Uint8Array<ArrayBuffer> {
  return encodeFrame(FRAME_HEADERS, encodeFieldSection(fields));
}

/** The fields of the plainest request. */
export const GET_FIELDS: readonly Field[] = [
  [":method", "GET"],
  [":scheme", "https"],
  [":authority", "relay.example"],
  [":path", "/"],
];

/** Numbers as varints, texts and arrays as they are, joined. */
export function wire(...parts: readonly (number | Uint8Array | string)[]): Uint8Array<ArrayBuffer> {
  return concat(parts.map((part) => {
    if (typeof part === "number") return encodeVarint(part);
    return typeof part === "string" ? new TextEncoder().encode(part) : part;
  }));
}

/** Cuts bytes into pieces of `size`, each in a buffer of its own. */
export function pieces(bytes: Uint8Array, size: number): Uint8Array<ArrayBuffer>[] {
  const cut: Uint8Array<ArrayBuffer>[] = [];
  for (let offset = 0; offset < bytes.length; offset += size) cut.push(bytes.slice(offset, offset + size));
  return cut;
}

/** One of `corpus` with some bytes replaced, cut or repeated. */
export function mutated(corpus: readonly Uint8Array[]): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  const edit = fc.record({ at: fc.nat(200), byte: fc.integer({ min: 0, max: 255 }) });
  return fc.tuple(fc.constantFrom(...corpus), fc.array(edit, { maxLength: 3 }), fc.nat(200), fc.nat(200)).map(
    ([seed, edits, cut, repeat]) => {
      const bytes = concat([seed, seed.subarray(0, repeat > 150 ? repeat - 150 : 0)]);
      for (const { at, byte } of edits) if (at < bytes.length) bytes[at] = byte;
      return cut < bytes.length ? bytes.slice(0, cut) : bytes;
    },
  );
}

/** Asserts that `act` throws a protocol error of this scope and code. */
export function assertProtocolError(
  act: () => unknown,
  expected: { readonly scope: ProtocolScope; readonly code: number },
): void {
  assert.throws(act, (error) => {
    assert.ok(error instanceof ProtocolError, `expected a ProtocolError, got ${error}`);
    assert.deepEqual({ scope: error.scope, code: error.wireCode }, expected);
    return true;
  });
}
