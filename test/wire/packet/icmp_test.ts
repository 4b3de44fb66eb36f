import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../../src/base/bytes.ts";
import { parseIp } from "../../../src/base/ip.ts";
import { encodeIcmpError, type IcmpError, innerOfIcmpError } from "../../../src/wire/packet/icmp.ts";
import { newPacketView, readPacket } from "../../../src/wire/packet/packet_view.ts";
import { readCorpus } from "../corpus.ts";
import {
  icmp,
  ipv4Packet,
  ipv6Fragment,
  ipv6Packet,
  read,
  slowChecksum,
  tcp,
  udp,
  withPseudoHeader6,
} from "./support.ts";

const GATEWAY4 = parseIp("10.100.0.1")!;
const GATEWAY6 = parseIp("fd00::1")!;
const PROHIBITED: IcmpError = { kind: "prohibited" };
const DATA = new Uint8Array(1_400).map((_, i) => i);

Deno.test("encodeIcmpError() never answers an ICMP error [RFC1122-3.2.2] [RFC4443-2.4]", () => {
  const quoted = { data: new Uint8Array(28) };
  for (const type of [3, 4, 5, 11, 12]) {
    assert.equal(errorAbout(ipv4Packet({ protocol: 1, payload: icmp({ type, ...quoted }) })), undefined);
  }
  for (const type of [0, 1, 2, 3, 4, 100, 127, 137]) {
    assert.equal(errorAbout(ipv6Packet({ protocol: 58, payload: icmp({ type, ...quoted }) })), undefined);
  }
  for (const type of [0, 8, 13]) {
    assert.ok(errorAbout(ipv4Packet({ protocol: 1, payload: icmp({ type }) })), `ICMP type ${type}`);
  }
  for (const type of [128, 129, 136]) {
    assert.ok(errorAbout(ipv6Packet({ protocol: 58, payload: icmp({ type }) })), `ICMPv6 type ${type}`);
  }
});

Deno.test("encodeIcmpError() answers only first fragments [RFC1122-3.2.2]", () => {
  const payload = udp({ data: new Uint8Array(8) });
  assert.ok(errorAbout(ipv4Packet({ payload, fragment: 0x2000 })));
  assert.equal(errorAbout(ipv4Packet({ payload, fragment: 0x2002 })), undefined);
  assert.equal(errorAbout(ipv4Packet({ payload, fragment: 0x0002 })), undefined);
  assert.ok(errorAbout(ipv6Fragment({ next: 17, more: true }, payload)));
  assert.equal(errorAbout(ipv6Fragment({ next: 17, offset: 16 }, payload)), undefined);
});

Deno.test("encodeIcmpError() answers only one host, about what went to one [RFC1122-3.2.2] [RFC4443-2.4]", () => {
  for (
    const [src, answered] of [
      ["0.0.0.0", false],
      ["0.255.255.255", false],
      ["1.0.0.0", true],
      ["126.255.255.255", true],
      ["127.0.0.1", false],
      ["127.255.255.255", false],
      ["128.0.0.0", true],
      ["223.255.255.255", true],
      ["224.0.0.1", false],
      ["240.0.0.1", false],
      ["255.255.255.255", false],
      ["::", false],
      ["::1", false],
      ["::2", true],
      ["ff02::1", false],
      ["feff::1", true],
    ] as const
  ) {
    const packet = src.includes(":") ? ipv6Packet({ src }) : ipv4Packet({ src });
    assert.equal(errorAbout(packet) !== undefined, answered, src);
  }
  for (
    const [dst, answered] of [
      ["223.255.255.255", true],
      ["224.0.0.1", false],
      ["239.255.255.255", false],
      ["240.0.0.1", true],
      ["255.255.255.255", false],
      ["ff02::1", false],
      ["fe80::1", true],
    ] as const
  ) {
    const packet = dst.includes(":") ? ipv6Packet({ dst }) : ipv4Packet({ dst });
    assert.equal(errorAbout(packet) !== undefined, answered, dst);
  }
});

Deno.test("encodeIcmpError() needs an address of the packet's version", () => {
  for (const [packet, from] of [[ipv4Packet(), GATEWAY6], [ipv6Packet(), GATEWAY4]] as const) {
    const view = read(packet);
    assert.equal(
      encodeIcmpError({ bytes: packet, start: 0, end: packet.length, view }, PROHIBITED, from),
      undefined,
    );
  }
});

Deno.test("encodeIcmpError() writes type, code and MTU of each error", () => {
  for (
    const [error, expected4, expected6] of [
      [{ kind: "packet_too_big", mtu: 1_380 }, "0304 00000564", "0200 00000564"],
      [{ kind: "packet_too_big", mtu: 70_000 }, "0304 0000ffff", "0200 00011170"],
      [PROHIBITED, "030d 00000000", "0101 00000000"],
      [{ kind: "no_route" }, "0300 00000000", "0100 00000000"],
      [{ kind: "time_exceeded" }, "0b00 00000000", "0300 00000000"],
    ] as const
  ) {
    for (
      const [packet, header, expected] of [[ipv4Packet(), 20, expected4], [
        ipv6Packet(),
        40,
        expected6,
      ]] as const
    ) {
      const message = errorAbout(packet, error)!;
      const [type, code, , , ...rest] = message.subarray(header, header + 8);
      assert.equal(toHex(Uint8Array.of(type!, code!, ...rest)), toHex(fromHex(expected)));
    }
  }
});

Deno.test("encodeIcmpError() makes a packet that its receiver takes, checksums and all", () => {
  for (const length of [0, 1, 2, 519, 520, 521, 1_183, 1_184, 1_185, 1_400]) {
    const payload = udp({ data: DATA.subarray(0, length) });
    const packet4 = ipv4Packet({ payload });
    const error4 = errorAbout(packet4)!;
    const view4 = read(error4);
    assert.equal(error4.length, Math.min(576, 28 + packet4.length));
    assert.deepEqual([view4.protocol, view4.ttl, view4.dontFragment, view4.headerLength], [1, 64, true, 20]);
    assert.equal(toHex(error4.subarray(12, 20)), "0a640001" + "c0000201");
    assert.deepEqual(error4.subarray(28), packet4.subarray(0, 548));
    assert.equal(toHex(slowChecksum(error4.subarray(20))), "0000");
    const packet6 = ipv6Packet({ payload });
    const error6 = errorAbout(packet6)!;
    const view6 = read(error6);
    assert.equal(error6.length, Math.min(1_280, 48 + packet6.length));
    assert.deepEqual([view6.protocol, view6.ttl, view6.headerLength], [58, 64, 40]);
    assert.equal(toHex(error6.subarray(0, 4)), "6c000000");
    assert.deepEqual(error6.subarray(8, 24), fromHex("fd000000000000000000000000000001"));
    assert.deepEqual(error6.subarray(24, 40), packet6.subarray(8, 24));
    assert.deepEqual(error6.subarray(48), packet6.subarray(0, 1_232));
    assert.equal(toHex(slowChecksum(withPseudoHeader6(error6, 58))), "0000");
  }
});

Deno.test("innerOfIcmpError() finds what encodeIcmpError() was about, in the middle of a buffer", () => {
  for (
    const packet of [
      ipv4Packet({ payload: udp({ data: DATA }) }),
      ipv4Packet({ protocol: 6, payload: tcp({}), options: fromHex("01010100") }),
      ipv4Packet({ protocol: 1, payload: icmp({ type: 8, rest: fromHex("12340001") }) }),
      ipv6Packet({ payload: udp({ data: DATA }) }),
      ipv6Packet({ protocol: 58, payload: icmp({ type: 128, rest: fromHex("12340001") }) }),
      ipv6Fragment({ next: 17, more: true }, udp({ data: new Uint8Array(8) })),
      ipv4Packet({ protocol: 99 }),
    ]
  ) {
    const outer = read(packet);
    for (const kind of ["prohibited", "no_route", "time_exceeded", "packet_too_big"] as const) {
      const message = errorAbout(packet, { kind, mtu: 1_300 })!;
      const bytes = concat([new Uint8Array(9).fill(0x45), message, new Uint8Array(9).fill(0x45)]);
      const [view, inner] = [newPacketView(), newPacketView()];
      assert.equal(readPacket(bytes, 9, 9 + message.length, view), undefined);
      assert.ok(innerOfIcmpError(bytes, 9, 9 + message.length, view, inner));
      assert.deepEqual(inner, { ...outer, tcpFlags: 0 });
    }
  }
});

Deno.test("innerOfIcmpError() needs the quoted packet up to its ports", () => {
  for (
    const [quote, protocol, type] of [[ipv4Packet(), 1, 3], [ipv6Packet(), 58, 1]] as const
  ) {
    const needed = quote.length;
    for (let cut = 0; cut <= needed; cut++) {
      const payload = icmp({ type, data: quote.subarray(0, cut) });
      const packet = protocol === 1 ? ipv4Packet({ protocol, payload }) : ipv6Packet({ protocol, payload });
      const found = innerOfIcmpError(packet, 0, packet.length, read(packet), newPacketView());
      assert.equal(found, cut === needed, `cut at ${cut} of ${needed}`);
    }
  }
});

Deno.test("innerOfIcmpError() takes the errors of a flow and no other message", () => {
  const takenTypes = (protocol: 1 | 58) =>
    Array.from({ length: 256 }, (_, type) => type).filter((type) => {
      const quote = protocol === 1 ? ipv4Packet() : ipv6Packet();
      const payload = icmp({ type, data: quote });
      const packet = protocol === 1 ? ipv4Packet({ protocol, payload }) : ipv6Packet({ protocol, payload });
      return innerOfIcmpError(packet, 0, packet.length, read(packet), newPacketView());
    });
  assert.deepEqual(takenTypes(1), [3, 11, 12]);
  assert.deepEqual(takenTypes(58), [1, 2, 3, 4]);
});

Deno.test("innerOfIcmpError() refuses a quotation of the other version, other protocols, and later fragments", () => {
  const cross = [
    ipv4Packet({ protocol: 1, payload: icmp({ type: 3, data: ipv6Packet() }) }),
    ipv6Packet({ protocol: 58, payload: icmp({ type: 1, data: ipv4Packet() }) }),
    ipv4Packet({ protocol: 58, payload: icmp({ type: 3, data: ipv4Packet() }) }),
    ipv6Packet({ protocol: 1, payload: icmp({ type: 1, data: ipv6Packet() }) }),
    ipv4Packet({ payload: udp({ data: ipv4Packet() }) }),
    ipv4Packet({ protocol: 1, fragment: 1, payload: icmp({ type: 3, data: ipv4Packet() }) }),
  ];
  for (const packet of cross) {
    assert.equal(innerOfIcmpError(packet, 0, packet.length, read(packet), newPacketView()), false);
  }
});

Deno.test("encodeIcmpError() and innerOfIcmpError() throw on no packet that readPacket() takes", () => {
  const corpus = [...readCorpus("packet").values()];
  let taken = 0;
  fc.assert(
    fc.property(fc.constantFrom(...corpus), fc.uint8Array({ maxLength: 90, size: "max" }), (start, rest) => {
      const packet = start[0]! >> 4 === 6
        ? ipv6Packet({ protocol: 58, payload: icmp({ type: rest[0] ?? 1, data: concat([start, rest]) }) })
        : ipv4Packet({ protocol: 1, payload: icmp({ type: rest[0] ?? 3, data: concat([start, rest]) }) });
      for (const bytes of [start, packet]) {
        const view = newPacketView();
        if (readPacket(bytes, 0, bytes.length, view) !== undefined) continue;
        taken++;
        const message = errorAbout(bytes);
        if (message !== undefined) {
          assert.ok(innerOfIcmpError(message, 0, message.length, read(message), newPacketView()));
        }
        innerOfIcmpError(bytes, 0, bytes.length, view, newPacketView());
      }
    }),
  );
  assert.ok(taken > 100);
});

function errorAbout(packet: Uint8Array, error: IcmpError = PROHIBITED): Uint8Array<ArrayBuffer> | undefined {
  const bytes = concat([new Uint8Array(4), packet, new Uint8Array(4)]);
  const view = read(packet);
  return encodeIcmpError(
    { bytes, start: 4, end: 4 + packet.length, view },
    error,
    view.version === 4 ? GATEWAY4 : GATEWAY6,
  );
}
