import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, utf8 } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import {
  decodeSocksDatagram,
  decodeSocksGreeting,
  decodeSocksRequest,
  encodeSocksMethod,
  encodeSocksReply,
  NO_ACCEPTABLE_METHODS,
  SOCKS_REPLY,
} from "../../src/wire/socks5.ts";

/** Bytes of the longest request; the longest greeting has 257. */
const MAX_SOCKS_MESSAGE = 4 + 1 + 255 + 2;

function domainRequest(name: string, port: number): Uint8Array {
  const bytes = utf8(name);
  return concat([Uint8Array.of(5, 1, 0, 3, bytes.length), bytes, Uint8Array.of(port >> 8, port & 255)]);
}

function assertRefused(decode: () => unknown, reply: number): void {
  assert.throws(decode, (error) => error instanceof ProtocolError && error.wireCode === reply);
}

Deno.test("decodeSocksGreeting() reads one to 255 methods, at every truncation", () => {
  for (const count of [1, 2, 255]) {
    const methods = Array.from({ length: count }, (_, i) => i);
    const bytes = Uint8Array.of(5, count, ...methods);
    for (let end = 0; end < bytes.length; end++) {
      assert.equal(decodeSocksGreeting(bytes.subarray(0, end)), undefined);
    }
    assert.deepEqual(decodeSocksGreeting(bytes), { methods, length: bytes.length });
    assert.deepEqual(decodeSocksGreeting(concat([bytes, bytes])), { methods, length: bytes.length });
  }
});

Deno.test("decodeSocksGreeting() refuses no methods [RFC1928-3]", () => {
  assertRefused(() => decodeSocksGreeting(Uint8Array.of(5, 0)), SOCKS_REPLY.generalFailure);
});

Deno.test("both decoders refuse other protocols at the first byte", () => {
  for (const text of ["\x04\x01\x00\x50", "GET / HTTP/1.1", "\x16\x03\x01"]) {
    for (const decode of [decodeSocksGreeting, decodeSocksRequest]) {
      assertRefused(() => decode(utf8(text).subarray(0, 1)), SOCKS_REPLY.generalFailure);
    }
  }
});

Deno.test("decodeSocksRequest() reads names and addresses, at every truncation", () => {
  const rows = [
    [domainRequest("rtmx-sync", 443), "domain", "rtmx-sync", 443],
    [domainRequest("a".repeat(255), 65_535), "domain", "a".repeat(255), 65_535],
    [Uint8Array.of(5, 1, 0, 1, 10, 0, 0, 255, 0, 80), "ipv4", "10.0.0.255", 80],
    [
      Uint8Array.of(5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0),
      "ipv6",
      "2001:db8:0:0:0:0:0:1",
      256,
    ],
  ] as const;
  for (const [bytes, addressType, host, port] of rows) {
    assert.ok(bytes.length <= MAX_SOCKS_MESSAGE);
    for (let end = 0; end < bytes.length; end++) {
      assert.equal(decodeSocksRequest(bytes.subarray(0, end)), undefined);
    }
    const request = { command: "connect", addressType, host, port, length: bytes.length };
    assert.deepEqual(decodeSocksRequest(bytes), request);
    assert.deepEqual(decodeSocksRequest(concat([bytes, utf8("early data")])), request);
    const associate = bytes.with(1, 3);
    assert.deepEqual(decodeSocksRequest(associate), { ...request, command: "associate" });

    const datagram = bytes.with(0, 0).with(1, 0);
    for (let end = 0; end < datagram.length; end++) {
      assert.equal(decodeSocksDatagram(datagram.subarray(0, end)), undefined);
    }
    const header = { fragment: 0, addressType, host, port, length: bytes.length };
    assert.deepEqual(decodeSocksDatagram(datagram), header);
    assert.deepEqual(decodeSocksDatagram(concat([datagram.with(2, 7), utf8("x")])), {
      ...header,
      fragment: 7,
    });
  }
});

Deno.test("decodeSocksRequest() answers what it does not support with the RFC's reply", () => {
  for (const command of [0, 2, 4, 0xf0]) {
    assertRefused(() => decodeSocksRequest(Uint8Array.of(5, command, 0, 1)), SOCKS_REPLY.commandNotSupported);
  }
  for (const type of [0, 2, 5, 255]) {
    assertRefused(
      () => decodeSocksRequest(Uint8Array.of(5, 1, 0, type)),
      SOCKS_REPLY.addressTypeNotSupported,
    );
  }
});

Deno.test("decodeSocksRequest() refuses a reserved byte that is not zero [RFC1928-6]", () => {
  assertRefused(() => decodeSocksRequest(Uint8Array.of(5, 1, 1, 1)), SOCKS_REPLY.generalFailure);
});

Deno.test("decodeSocksRequest() refuses empty and unprintable names", () => {
  for (const name of ["", "a b", "a\0b", "caf\u00e9", "a\r\nb", "\x7f"]) {
    assertRefused(() => decodeSocksRequest(domainRequest(name, 80)), SOCKS_REPLY.generalFailure);
  }
});

Deno.test("a choice of method and replies have the RFC's bytes", () => {
  assert.deepEqual([...encodeSocksMethod(NO_ACCEPTABLE_METHODS)], [5, 0xff]);
  assert.deepEqual([...encodeSocksReply(SOCKS_REPLY.hostUnreachable)], [5, 4, 0, 1, 0, 0, 0, 0, 0, 0]);
  const { succeeded } = SOCKS_REPLY;
  assert.deepEqual(
    [...encodeSocksReply(succeeded, { hostname: "127.0.0.1", port: 258 })],
    [5, 0, 0, 1, 127, 0, 0, 1, 1, 2],
  );
  assert.deepEqual(
    [...encodeSocksReply(succeeded, { hostname: "::1", port: 65_535 })],
    [5, 0, 0, 4, ...Array.from({ length: 15 }, () => 0), 1, 255, 255],
  );
});

Deno.test("decodeSocksDatagram() takes no reserved bytes, unknown types or unprintable names [RFC1928-7]", () => {
  const fine = Uint8Array.of(0, 0, 0, 1, 10, 0, 0, 1, 0, 53);
  assert.notEqual(decodeSocksDatagram(fine), undefined);
  for (const bytes of [fine.with(0, 1), fine.with(1, 1), fine.with(3, 2), new Uint8Array()]) {
    assert.equal(decodeSocksDatagram(bytes), undefined);
  }
  assert.equal(decodeSocksDatagram(Uint8Array.of(0, 0, 0, 3, 1, 0x20, 0, 53)), undefined);
  assert.equal(decodeSocksDatagram(Uint8Array.of(0, 0, 0, 3, 0, 0, 53)), undefined);
});

Deno.test("any bytes decode, need more or are refused, and never need more than the longest message", () => {
  const opening = fc.constantFrom([5], [5, 1], [5, 1, 0, 3], []);
  fc.assert(fc.property(opening, fc.uint8Array({ maxLength: 300 }), (head, tail) => {
    const bytes = Uint8Array.of(...head, ...tail);
    for (const decode of [decodeSocksGreeting, decodeSocksRequest]) {
      try {
        const message = decode(bytes);
        if (message === undefined) assert.ok(bytes.length < MAX_SOCKS_MESSAGE);
        else assert.ok(message.length <= bytes.length);
      } catch (error) {
        assert.ok(error instanceof ProtocolError);
      }
    }
  }));
});

Deno.test("any datagram is read within its bytes or is none", () => {
  const opening = fc.constantFrom([0, 0, 0, 1], [0, 0, 0, 3], [0, 0, 9, 4], []);
  fc.assert(fc.property(opening, fc.uint8Array({ maxLength: 300 }), (head, tail) => {
    const bytes = Uint8Array.of(...head, ...tail);
    const datagram = decodeSocksDatagram(bytes);
    assert.ok(datagram === undefined || datagram.length <= bytes.length);
  }));
});
