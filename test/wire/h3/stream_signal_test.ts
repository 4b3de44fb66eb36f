import assert from "node:assert/strict";
import * as fc from "fast-check";
import { toHex } from "../../../src/base/bytes.ts";
import { H3_ID_ERROR } from "../../../src/wire/h3/codes.ts";
import {
  encodeWebTransportSignal,
  type StreamSignal,
  StreamSignalReader,
} from "../../../src/wire/h3/stream_signal.ts";
import { assertDeclaredErrors } from "../corpus.ts";
import { assertProtocolError, pieces, wire } from "./support.ts";

Deno.test("encodeWebTransportSignal() writes type and session id", () => {
  assert.equal(toHex(encodeWebTransportSignal("bidirectional", 4)), "404104");
  assert.equal(toHex(encodeWebTransportSignal("unidirectional", 64)), "40544040");
});

Deno.test("StreamSignalReader reads what was written at each width of a session id, however cut", () => {
  for (const direction of ["bidirectional", "unidirectional"] as const) {
    for (const sessionId of [0, 60, 64, 16_380, 16_384, 2 ** 30, 2 ** 50]) {
      const stream = wire(encodeWebTransportSignal(direction, sessionId), "application");
      for (const size of [1, 2, 3, stream.length]) {
        const { signal, rest } = readSignal(direction, pieces(stream, size));
        assert.deepEqual([signal.kind, "sessionId" in signal && signal.sessionId], [
          "webtransport",
          sessionId,
        ]);
        assert.equal(rest, "application");
      }
    }
  }
});

Deno.test("StreamSignalReader consumes the type of another one-way stream", () => {
  const { signal, rest } = readSignal("unidirectional", pieces(wire(0x21, "xyz"), 1));
  assert.deepEqual([signal.kind, "type" in signal && signal.type, rest], ["other", 0x21, "xyz"]);
});

Deno.test("StreamSignalReader consumes nothing of a request stream", () => {
  for (const size of [1, 2, 10]) {
    const { signal, rest } = readSignal("bidirectional", pieces(wire(0x4000, "xyz"), size));
    assert.equal(signal.kind, "other");
    assert.equal(rest, String.fromCharCode(...wire(0x4000, "xyz")));
  }
});

Deno.test("StreamSignalReader refuses a session that no client can have opened", () => {
  for (const id of [1, 2, 3, 65]) {
    assertProtocolError(() => readSignal("unidirectional", [wire(0x54, id)]), {
      scope: "connection",
      code: H3_ID_ERROR,
    });
  }
});

Deno.test("StreamSignalReader asks for more at every cut of a signal", () => {
  const signal = encodeWebTransportSignal("bidirectional", 2 ** 40);
  for (let end = 0; end < signal.length; end++) {
    const reader = new StreamSignalReader("bidirectional");
    assert.equal(reader.push(signal.slice(0, end)), undefined);
  }
});

Deno.test("StreamSignalReader either reads or refuses any bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), fc.boolean(), (bytes, bidirectional) => {
    const reader = new StreamSignalReader(bidirectional ? "bidirectional" : "unidirectional");
    assertDeclaredErrors(["ERR_PROTOCOL"], () => {
      for (const piece of pieces(bytes, 3)) if (reader.push(piece) !== undefined) break;
    });
  }));
});

/** Pushes until the signal is there; `rest` also holds what was not pushed. */
function readSignal(
  direction: "bidirectional" | "unidirectional",
  chunks: readonly Uint8Array<ArrayBuffer>[],
): { signal: StreamSignal; rest: string } {
  const reader = new StreamSignalReader(direction);
  for (const [index, chunk] of chunks.entries()) {
    const signal = reader.push(chunk);
    if (signal === undefined) continue;
    const rest = [signal.rest, ...chunks.slice(index + 1)];
    return { signal, rest: rest.map((bytes) => String.fromCharCode(...bytes)).join("") };
  }
  throw new Error("The signal is incomplete");
}
