import assert from "node:assert/strict";
import * as fc from "fast-check";
import { toHex } from "../../../src/base/bytes.ts";
import {
  H3_FRAME_ERROR,
  H3_SETTINGS_ERROR,
  SETTINGS_ENABLE_CONNECT_PROTOCOL,
  SETTINGS_ENABLE_WEBTRANSPORT,
  SETTINGS_H3_DATAGRAM,
  SETTINGS_MAX_FIELD_SECTION_SIZE,
  SETTINGS_WEBTRANSPORT_MAX_SESSIONS,
  SETTINGS_WT_MAX_SESSIONS,
} from "../../../src/wire/h3/codes.ts";
import { decodeSettings, encodeSettings } from "../../../src/wire/h3/settings.ts";
import { assertDeclaredErrors } from "../corpus.ts";
import { assertProtocolError, wire } from "./support.ts";

Deno.test("encodeSettings() says only what is set", () => {
  // SETTINGS, 5 bytes: MAX_FIELD_SECTION_SIZE = 16384.
  assert.equal(toHex(encodeSettings({ maxFieldSectionSize: 16_384 })), "04050680004000");
});

Deno.test("decodeSettings() reads what encodeSettings() wrote", () => {
  const frame = encodeSettings({
    maxFieldSectionSize: 65_536,
    connectProtocol: true,
    datagrams: true,
    webTransportSessions: 16,
  });
  assert.deepEqual(decodeSettings(frame.subarray(2)), {
    maxFieldSectionSize: 65_536,
    connectProtocol: true,
    datagrams: true,
    webTransport: true,
  });
});

Deno.test("decodeSettings() has the defaults of a peer that says nothing", () => {
  assert.deepEqual(decodeSettings(new Uint8Array(0)), {
    maxFieldSectionSize: Infinity,
    connectProtocol: false,
    datagrams: false,
    webTransport: false,
  });
});

Deno.test("decodeSettings() knows WebTransport under each deployed form of its setting", () => {
  for (
    const id of [SETTINGS_ENABLE_WEBTRANSPORT, SETTINGS_WEBTRANSPORT_MAX_SESSIONS, SETTINGS_WT_MAX_SESSIONS]
  ) {
    assert.equal(decodeSettings(wire(id, 1)).webTransport, true, id.toString(16));
    assert.equal(decodeSettings(wire(id, 0)).webTransport, false, id.toString(16));
  }
});

Deno.test("decodeSettings() ignores unknown settings", () => {
  assert.equal(decodeSettings(wire(0x21, 7, 0x4d44, 1, SETTINGS_H3_DATAGRAM, 1)).datagrams, true);
});

const REFUSED: readonly [name: string, payload: Uint8Array][] = [
  [
    "a setting twice [RFC9114-7.2.4]",
    wire(SETTINGS_MAX_FIELD_SECTION_SIZE, 1, SETTINGS_MAX_FIELD_SECTION_SIZE, 1),
  ],
  ["an unknown setting twice [RFC9114-7.2.4]", wire(0x21, 1, 0x21, 2)],
  ["a setting of HTTP/2 [RFC9114-7.2.4.1]", wire(0x02, 0)],
  ["the reserved setting 0x00", wire(0x00, 0)],
  ["the reserved setting 0x03", wire(0x03, 100)],
  ["the reserved setting 0x04", wire(0x04, 65_535)],
  ["the reserved setting 0x05", wire(0x05, 16_384)],
  ["ENABLE_CONNECT_PROTOCOL = 2 [RFC9220-3] [RFC8441-3]", wire(SETTINGS_ENABLE_CONNECT_PROTOCOL, 2)],
  ["H3_DATAGRAM = 2 [RFC9297-2.1.1]", wire(SETTINGS_H3_DATAGRAM, 2)],
];

for (const [name, payload] of REFUSED) {
  Deno.test(`decodeSettings() refuses ${name}`, () => {
    assertProtocolError(() => decodeSettings(payload), { scope: "connection", code: H3_SETTINGS_ERROR });
  });
}

Deno.test("decodeSettings() refuses a payload cut inside a setting [RFC9114-7.1]", () => {
  const whole = wire(SETTINGS_WEBTRANSPORT_MAX_SESSIONS, 70_000, SETTINGS_MAX_FIELD_SECTION_SIZE, 16_384);
  const boundary = wire(SETTINGS_WEBTRANSPORT_MAX_SESSIONS, 70_000).length;
  for (let end = 1; end < whole.length; end++) {
    if (end === boundary) continue;
    const cut = whole.subarray(0, end);
    assertProtocolError(() => decodeSettings(cut), { scope: "connection", code: H3_FRAME_ERROR });
  }
});

Deno.test("decodeSettings() either reads or refuses any bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
    assertDeclaredErrors(["ERR_PROTOCOL"], () => decodeSettings(bytes));
  }));
});
