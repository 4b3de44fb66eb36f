import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../../src/base/bytes.ts";
import { internetChecksum, transportChecksum, writeIpv4Checksum } from "../../../src/wire/packet/checksum.ts";
import { newPacketView, readPacket } from "../../../src/wire/packet/packet_view.ts";
import { ipv4Packet, ipv6Packet, slowChecksum, udp, withPseudoHeader6 } from "./support.ts";

Deno.test("internetChecksum() gives the sum of the example in RFC 1071", () => {
  const bytes = fromHex("0001f203f4f5f6f7");
  assert.equal(internetChecksum(bytes, 0, 8), 0xffff - 0xddf2);
});

Deno.test("internetChecksum() agrees with the slow way for any range, odd ones too", () => {
  const input = fc.uint8Array({ maxLength: 200, size: "max" });
  fc.assert(fc.property(input, fc.nat(20), fc.nat(20), fc.nat(0x1_ffff), (bytes, front, back, initial) => {
    const start = Math.min(front, bytes.length);
    const end = Math.max(start, bytes.length - back);
    const [high, low] = slowChecksum(bytes.subarray(start, end));
    assert.equal(internetChecksum(bytes, start, end), (high! << 8) | low!);
    const words = Uint8Array.of(0, initial >> 16, initial >> 8, initial);
    const [high2, low2] = slowChecksum(concat([words, bytes.subarray(start, end)]));
    assert.equal(internetChecksum(bytes, start, end, initial), (high2! << 8) | low2!);
  }));
});

Deno.test("internetChecksum() does not overflow on the largest packet", () => {
  const bytes = new Uint8Array(65_535).fill(0xff);
  assert.equal(internetChecksum(bytes, 0, 65_534, 65_534), 0xffff - 65_534);
  assert.equal(internetChecksum(bytes, 0, 65_535), 0xffff - 0xff00);
});

Deno.test("transportChecksum() covers the pseudo-header of either version", () => {
  const data = fromHex("000102030405060708");
  const ipv4 = ipv4Packet({ payload: udp({ data }) });
  const pseudo4 = concat([ipv4.subarray(12, 20), Uint8Array.of(0, 17, 0, 17), ipv4.subarray(20)]);
  const ipv6 = ipv6Packet({ payload: udp({ data }) });
  for (const [packet, pseudo] of [[ipv4, pseudo4], [ipv6, withPseudoHeader6(ipv6, 17)]] as const) {
    const view = newPacketView();
    assert.equal(readPacket(packet, 0, packet.length, view), undefined);
    const bytes = concat([new Uint8Array(5), packet, new Uint8Array(5).fill(9)]);
    const checksum = transportChecksum(bytes, 5, 5 + packet.length, view);
    assert.equal(checksum.toString(16).padStart(4, "0"), toHex(slowChecksum(pseudo)));
    bytes.set([checksum >> 8, checksum], 5 + view.headerLength + 6);
    assert.equal(transportChecksum(bytes, 5, 5 + packet.length, view), 0);
  }
});

Deno.test("writeIpv4Checksum() writes what a header with options needs, whatever stood there", () => {
  const packet = ipv4Packet({ options: fromHex("01010100") });
  const bytes = concat([new Uint8Array(3), packet]);
  bytes.set([0xab, 0xcd], 3 + 10);
  writeIpv4Checksum(bytes, 3);
  assert.deepEqual(bytes.subarray(3), packet);
});
