/** Preamble and OPEN content: round trips and every kind of malformed input. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { fromHex, utf8 } from "../../src/base/bytes.ts";
import {
  decodeOpenHeader,
  decodePreamble,
  encodeOpenHeader,
  encodePreamble,
  type OpenHeader,
} from "../../src/dataplane/open_header.ts";

const HEADER: OpenHeader = {
  flowId: (1n << 64n) - 1n,
  service: "web",
  port: 443,
  protocol: "tcp",
  caller: "spiffe://td/agent/a",
  connector: "spiffe://td/connector/c",
};

Deno.test("encodePreamble() writes version, session id and flow id", () => {
  const preamble = { sessionId: "00112233445566778899aabbccddeeff", flowId: 0x0102030405060708n };
  const bytes = fromHex("01 00112233445566778899aabbccddeeff 0102030405060708");
  assert.deepEqual(encodePreamble(preamble), bytes);
  assert.deepEqual(decodePreamble(bytes), preamble);
});

Deno.test("decodePreamble() refuses another version and every other length", () => {
  const bytes = encodePreamble({ sessionId: "00".repeat(16), flowId: 1n });
  for (const version of [0, 2, 255]) {
    assert.throws(() => decodePreamble(Uint8Array.of(version, ...bytes.subarray(1))), {
      code: "ERR_FLOW_OPEN",
    });
  }
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodePreamble(bytes.subarray(0, length)), { code: "ERR_FLOW_OPEN" });
  }
  assert.throws(() => decodePreamble(Uint8Array.of(...bytes, 0)), { code: "ERR_FLOW_OPEN" });
});

Deno.test("decodeOpenHeader() reads what encodeOpenHeader() wrote", () => {
  assert.deepEqual(decodeOpenHeader(encodeOpenHeader(HEADER)), HEADER);
  const { port: _, ...noPort } = HEADER;
  assert.deepEqual(decodeOpenHeader(encodeOpenHeader(noPort)), noPort);
  assert.deepEqual(decodeOpenHeader(encodeOpenHeader({ ...noPort, port: undefined })), noPort);
});

Deno.test("decodeOpenHeader() reads every protocol, and the address asked for", () => {
  for (const protocol of ["tcp", "udp", "icmp"] as const) {
    const header = { ...HEADER, protocol, address: "x".repeat(255) };
    assert.deepEqual(decodeOpenHeader(encodeOpenHeader(header)), header);
  }
});

Deno.test("decodeOpenHeader() refuses OPEN truncated at every byte, and one byte more", () => {
  const bytes = encodeOpenHeader(HEADER);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeOpenHeader(bytes.subarray(0, length)), { code: "ERR_FLOW_OPEN" });
  }
  assert.throws(() => decodeOpenHeader(Uint8Array.of(...bytes, 0x7d)), { code: "ERR_FLOW_OPEN" });
});

Deno.test("decodeOpenHeader() refuses wrong fields", () => {
  const good = { flow: "7", service: "web", protocol: "tcp", caller: "a", connector: "b" };
  assert.equal(decodeOpenHeader(utf8(JSON.stringify(good))).flowId, 7n);
  const changes = [
    { flow: 7 },
    { flow: "-7" },
    { flow: "07" },
    { flow: "123456789012345678901" },
    { service: "" },
    { service: "x".repeat(256) },
    { port: 0 },
    { port: 65_536 },
    { port: 1.5 },
    { port: "80" },
    { protocol: "UDP" },
    { protocol: "sctp" },
    { address: "" },
    { address: "x".repeat(256) },
    { address: 10 },
    { caller: "" },
    { connector: undefined },
    { extra: 1 },
  ];
  for (const change of changes) {
    const text = JSON.stringify({ ...good, ...change });
    assert.throws(() => decodeOpenHeader(utf8(text)), { code: "ERR_FLOW_OPEN" }, text);
  }
});

Deno.test("decodeOpenHeader() survives arbitrary bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
    assert.throws(() => decodeOpenHeader(bytes), { code: "ERR_FLOW_OPEN" });
  }));
});
