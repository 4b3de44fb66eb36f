import assert from "node:assert/strict";
import { concat, fromHex } from "../../../src/base/bytes.ts";
import {
  extension,
  fault,
  fragment,
  ipv4Packet,
  ipv6Fragment,
  ipv6Packet,
  patchedBytes,
  read,
  tcp,
  udp,
  withIpv4Checksum,
} from "./support.ts";

Deno.test("readPacket() refuses every version but 4 and 6", () => {
  for (let version = 0; version < 16; version++) {
    if (version === 4 || version === 6) continue;
    assert.equal(fault(patched({ 0: version << 4 | 5 })), "bad_version");
  }
});

Deno.test("readPacket() refuses IPv4 headers that contradict themselves", () => {
  for (
    const [patch, expected] of [
      [{ 0: 0x44 }, "bad_header"],
      [{ 0: 0x40 }, "bad_header"],
      [{ 0: 0x4f }, "truncated"],
      [{ 3: 19 }, "bad_length"],
      [{ 3: 36 }, "bad_length"],
      [{ 3: 38 }, "truncated"],
      [{ 10: 0 }, "bad_checksum"],
      [{ 19: 8 }, "bad_checksum"],
      [{ 8: 63 }, "bad_checksum"],
    ] as const
  ) assert.equal(fault(patched(patch, { checksum: false })), expected, JSON.stringify(patch));
});

Deno.test("readPacket() refuses source routes and malformed options of IPv4", () => {
  for (
    const [options, expected] of [
      ["00000000", undefined],
      ["01010101", undefined],
      ["94040000", undefined],
      ["07070400 00000000", undefined],
      ["00838383", undefined],
      ["8307 04c0 0002 0100", "bad_header"],
      ["8907 04c0 0002 0100", "bad_header"],
      ["0183 0704 c000 0201", "bad_header"],
      ["94010000", "bad_header"],
      ["94000000", "bad_header"],
      ["94050000", "bad_header"],
      ["01010194", "bad_header"],
    ] as const
  ) assert.equal(fault(ipv4Packet({ options: fromHex(options) })), expected, options);
});

Deno.test("readPacket() refuses routing headers that lead on, and takes those that are used up", () => {
  for (const type of [0, 2, 3, 4, 253]) {
    const header = (left: number) => concat([Uint8Array.of(17, 0, type, left, 0, 0, 0, 0), udp({})]);
    assert.equal(fault(ipv6Packet({ protocol: 43, payload: header(0) })), undefined);
    assert.equal(fault(ipv6Packet({ protocol: 43, payload: header(1) })), "bad_header");
    assert.equal(fault(ipv6Packet({ protocol: 43, payload: header(255) })), "bad_header");
  }
});

Deno.test("readPacket() refuses IPv4-mapped addresses in IPv6 packets, and takes their neighbours [RFC6890-2.2.3]", () => {
  for (
    const [address, expected] of [
      ["::ffff:10.0.0.1", "bad_header"],
      ["::fffe:10.0.0.1", undefined],
      ["::1:ffff:10.0.0.1", undefined],
      ["0:0:1:0:0:ffff:10.0.0.1", undefined],
      ["1::ffff:10.0.0.1", undefined],
      ["64:ff9b::10.0.0.1", undefined],
    ] as const
  ) {
    assert.equal(fault(ipv6Packet({ src: address })), expected, address);
    assert.equal(fault(ipv6Packet({ dst: address })), expected, address);
  }
});

Deno.test("readPacket() refuses fragments that reassemble to more than a packet, or to nothing", () => {
  const last = (65_528 - 8) / 8;
  for (
    const [fragmentField, length, expected] of [
      [0x1fff, 7, undefined],
      [0x1fff, 8, "bad_header"],
      [0x1fff, 1_400, "bad_header"],
      [0x3fff, 8, "bad_header"],
      [last, 15, undefined],
      [last, 16, "bad_header"],
      [0x2000, 0, "bad_length"],
      [0x2003, 12, "bad_length"],
      [0x0003, 0, "bad_length"],
      [0x0003, 12, undefined],
      [0x2003, 16, undefined],
    ] as const
  ) {
    const payload = new Uint8Array(length);
    assert.equal(fault(ipv4Packet({ protocol: 99, fragment: fragmentField, payload })), expected);
    const offset = (fragmentField & 0x1fff) * 8;
    const more = (fragmentField & 0x2000) !== 0;
    assert.equal(fault(ipv6Fragment({ next: 99, offset, more }, payload)), expected);
  }
});

Deno.test("readPacket() walks eight extension headers, and each of its kind", () => {
  for (const kind of [0, 60, 43, 135, 139, 140]) {
    const view = read(ipv6Packet({ protocol: kind, payload: concat([extension(17), udp({})]) }));
    assert.deepEqual([view.protocol, view.headerLength, view.dstPort], [17, 48, 53], `header ${kind}`);
  }
  const authentication = concat([Uint8Array.of(6, 4), new Uint8Array(22), tcp({})]);
  const view = read(ipv6Packet({ protocol: 51, payload: authentication }));
  assert.deepEqual([view.protocol, view.headerLength, view.dstPort], [6, 64, 443]);
  const chain = (length: number) =>
    ipv6Packet({
      protocol: 60,
      payload: concat([...Array.from({ length }, (_, i) => extension(i === length - 1 ? 17 : 60)), udp({})]),
    });
  assert.equal(read(chain(8)).headerLength, 40 + 64);
  assert.equal(fault(chain(9)), "bad_header");
  assert.equal(fault(chain(180)), "bad_header");
});

Deno.test("readPacket() refuses hop-by-hop options that are not first [RFC8200-4.1]", () => {
  const payload = concat([extension(0), extension(17), udp({})]);
  assert.equal(fault(ipv6Packet({ protocol: 60, payload })), "bad_header");
  assert.equal(fault(ipv6Packet({ protocol: 0, payload })), "bad_header");
});

Deno.test("readPacket() refuses a second fragment header, and extension headers longer than the packet", () => {
  const twice = concat([fragment({ next: 44 }), fragment({ next: 17 }), udp({})]);
  assert.equal(fault(ipv6Packet({ protocol: 44, payload: twice })), "bad_header");
  for (const kind of [0, 60, 43, 51, 135]) {
    const payload = concat([Uint8Array.of(17, 200), new Uint8Array(100)]);
    assert.equal(fault(ipv6Packet({ protocol: kind, payload })), "truncated", `header ${kind}`);
  }
});

Deno.test("readPacket() refuses jumbograms", () => {
  const jumbo = concat([Uint8Array.of(17, 0, 0xc2, 4, 0, 1, 0, 0), udp({})]);
  assert.equal(
    fault(patchedBytes(ipv6Packet({ protocol: 0, payload: jumbo }), { 4: 0, 5: 0 })),
    "bad_length",
  );
});

/** A UDP packet with some bytes changed, and by default the right checksum for that. */
function patched(
  patch: Readonly<Record<number, number>>,
  { checksum = true } = {},
): Uint8Array<ArrayBuffer> {
  const packet = patchedBytes(ipv4Packet({ payload: udp({ data: new Uint8Array(9) }) }), patch);
  return checksum ? withIpv4Checksum(packet) : packet;
}
