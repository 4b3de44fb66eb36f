import assert from "node:assert/strict";
import fc from "fast-check";
import { transportChecksum, writeIpv4Checksum } from "../../../src/wire/packet/checksum.ts";
import { newPacketView, readPacket } from "../../../src/wire/packet/packet_view.ts";
import { flowRewrite, rewriteFlow } from "../../../src/wire/packet/rewrite.ts";
import { ipv4Packet, ipv6Packet, tcp } from "./support.ts";

Deno.test("rewriteFlow() keeps checksums right, whatever addresses, ports and data are [RFC1624-3]", () => {
  fc.assert(fc.property(
    fc.constantFrom(4 as const, 6 as const),
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
    fc.array(fc.integer({ min: 0, max: 65_535 }), { minLength: 4, maxLength: 4 }),
    fc.uint8Array({ maxLength: 50 }),
    (version, addresses, [a, b, c, d], data) => {
      const packet = sound(version, data);
      const size = version === 4 ? 4 : 16;
      const at = version === 4 ? 12 : 8;
      const port = new DataView(packet.buffer, packet.byteOffset + packet.length - data.length - 20);
      port.setUint16(0, a!);
      port.setUint16(2, b!);
      seal(packet, version);
      const from = {
        src: packet.slice(at, at + size),
        dst: packet.slice(at + size, at + 2 * size),
        srcPort: a!,
        dstPort: b!,
      };
      const to = {
        src: addresses.slice(0, size),
        dst: addresses.slice(16, 16 + size),
        srcPort: c!,
        dstPort: d!,
      };
      const view = newPacketView();
      readPacket(packet, 0, packet.length, view);
      rewriteFlow(packet, 0, view, flowRewrite(from, to));
      assert.deepEqual(packet.slice(at, at + size), to.src);
      assert.deepEqual(packet.slice(at + size, at + 2 * size), to.dst);
      assert.deepEqual([port.getUint16(0), port.getUint16(2)], [c, d]);
      const checksum = transportChecksum(packet, 0, packet.length, { ...view });
      assert.equal(checksum, 0);
      if (version === 4) {
        const before = packet.slice(10, 12);
        writeIpv4Checksum(packet, 0);
        assert.ok(sameSum(before, packet.slice(10, 12)));
      }
      // And back again it is what it was.
      rewriteFlow(packet, 0, view, flowRewrite(to, from));
      assert.deepEqual(packet.slice(at, at + 2 * size), new Uint8Array([...from.src, ...from.dst]));
      assert.equal(transportChecksum(packet, 0, packet.length, { ...view }), 0);
    },
  ));
});

/** All ones and all zeros are the same sum. */
function sameSum(a: Uint8Array, b: Uint8Array): boolean {
  const number = (bytes: Uint8Array) => ((bytes[0]! << 8) | bytes[1]!) % 0xffff;
  return number(a) === number(b);
}

function sound(version: 4 | 6, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const payload = tcp({ data });
  return version === 4 ? ipv4Packet({ protocol: 6, payload }) : ipv6Packet({ protocol: 6, payload });
}

function seal(packet: Uint8Array, version: 4 | 6): void {
  const headerLength = version === 4 ? 20 : 40;
  packet.fill(0, headerLength + 16, headerLength + 18);
  const checksum = transportChecksum(packet, 0, packet.length, { version, headerLength, protocol: 6 });
  packet[headerLength + 16] = checksum >> 8;
  packet[headerLength + 17] = checksum;
}
