import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex } from "../../../src/base/bytes.ts";
import { formatIp, ipFromWords } from "../../../src/base/ip.ts";
import {
  decrementTtl,
  isFragment,
  newPacketView,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  readPacket,
  readQuotedPacket,
} from "../../../src/wire/packet/packet_view.ts";
import { readCorpus } from "../corpus.ts";
import {
  extension,
  fault,
  fragment,
  icmp,
  ipv4Packet,
  ipv6Fragment,
  ipv6Packet,
  patchedBytes,
  read,
  slowChecksum,
  tcp,
  udp,
  withIpv4Checksum,
} from "./support.ts";

const SAMPLES: Readonly<Record<string, Uint8Array<ArrayBuffer>>> = {
  udp4: ipv4Packet({ payload: udp({ data: new Uint8Array(9) }) }),
  tcp4: ipv4Packet({ protocol: 6, payload: tcp({}), options: fromHex("01010100") }),
  echo4: ipv4Packet({ protocol: 1, payload: icmp({ type: 8, rest: fromHex("12340001") }) }),
  udp6: ipv6Packet({ payload: udp({ data: new Uint8Array(9) }) }),
  tcp6: ipv6Packet({ protocol: 0, payload: concat([extension(6), tcp({})]) }),
  echo6: ipv6Packet({ protocol: 58, payload: icmp({ type: 128, rest: fromHex("12340001") }) }),
  fragment6: ipv6Packet({
    protocol: 44,
    payload: concat([fragment({ next: 17, more: true }), udp({ data: new Uint8Array(8) })]),
  }),
};

Deno.test("readPacket() refuses a packet cut at any byte, and one with a byte too many", () => {
  for (const [name, packet] of Object.entries(SAMPLES)) {
    assert.equal(fault(packet), undefined, name);
    for (let cut = 0; cut < packet.length; cut++) {
      assert.equal(fault(packet.subarray(0, cut)), "truncated", `${name} cut at ${cut}`);
    }
    assert.equal(fault(concat([packet, Uint8Array.of(0)])), "bad_length", name);
  }
});

Deno.test("readPacket() refuses a transport header that is cut by the packet's own lengths", () => {
  for (const [protocol, whole] of [[6, 20], [17, 8], [1, 8]] as const) {
    for (let length = 0; length < whole; length++) {
      assert.equal(fault(ipv4Packet({ protocol, payload: new Uint8Array(length) })), "truncated");
    }
  }
  for (const [protocol, whole] of [[6, 20], [17, 8], [58, 8]] as const) {
    for (let length = 0; length < whole; length++) {
      assert.equal(fault(ipv6Packet({ protocol, payload: new Uint8Array(length) })), "truncated");
    }
  }
});

Deno.test("readPacket() refuses ranges that lie outside the buffer", () => {
  const packet = SAMPLES.udp4!;
  const view = newPacketView();
  assert.equal(readPacket(packet, 0, packet.length + 1, view), "truncated");
  assert.equal(readPacket(packet, -1, packet.length, view), "truncated");
  assert.equal(readPacket(packet, 5, 5, view), "truncated");
  assert.equal(readPacket(packet, 9, 5, view), "truncated");
});

Deno.test("readPacket() refuses fragments that hide or overwrite a transport header", () => {
  // RFC 1858 and RFC 3128: a first fragment too small for the header, a later one that reaches back into it.
  assert.equal(fault(ipv4Packet({ protocol: 6, payload: new Uint8Array(8), fragment: 0x2000 })), "truncated");
  assert.equal(
    fault(ipv4Packet({ protocol: 6, payload: new Uint8Array(16), fragment: 0x2000 })),
    "truncated",
  );
  for (const offset of [1, 2]) {
    assert.equal(fault(ipv4Packet({ protocol: 6, payload: tcp({}), fragment: offset })), "bad_header");
    assert.equal(fault(ipv6Fragment({ next: 6, offset: offset * 8 }, tcp({}))), "bad_header");
  }
  assert.equal(fault(ipv4Packet({ protocol: 6, payload: tcp({}), fragment: 3 })), undefined);
  assert.equal(fault(ipv6Fragment({ next: 6, offset: 24 }, tcp({}))), undefined);
  assert.equal(fault(ipv6Fragment({ next: 6, more: true }, new Uint8Array(16))), "truncated");
  // RFC 7112: the whole header chain lies in the first fragment.
  assert.equal(fault(ipv6Fragment({ next: 60, more: true }, extension(60))), "truncated");
});

Deno.test("readPacket() refuses transport headers that contradict themselves", () => {
  const udpOf = (length: number) =>
    concat([Uint8Array.of(0, 1, 0, 2, length >> 8, length, 0, 0), new Uint8Array(8)]);
  for (
    const [length, expected] of [[0, "bad_length"], [7, "bad_length"], [8, undefined], [16, undefined], [
      17,
      "bad_length",
    ]] as const
  ) {
    assert.equal(fault(ipv4Packet({ payload: udpOf(length) })), expected, `UDP length ${length}`);
    assert.equal(fault(ipv6Packet({ payload: udpOf(length) })), expected, `UDP length ${length}`);
  }
  assert.equal(fault(ipv4Packet({ payload: udpOf(1_000), fragment: 0x2000 })), undefined);
  const tcpOf = (words: number) =>
    concat([new Uint8Array(12), Uint8Array.of(words << 4), new Uint8Array(11)]);
  for (
    const [words, expected] of [[0, "bad_header"], [4, "bad_header"], [5, undefined], [6, undefined], [
      7,
      "bad_header",
    ], [15, "bad_header"]] as const
  ) {
    assert.equal(
      fault(ipv4Packet({ protocol: 6, payload: tcpOf(words) })),
      expected,
      `TCP header of ${words} words`,
    );
    assert.equal(
      fault(ipv6Packet({ protocol: 6, payload: tcpOf(words) })),
      expected,
      `TCP header of ${words} words`,
    );
  }
});

Deno.test("readPacket() reads every field of IPv4", () => {
  const view = read(ipv4Packet({ src: "255.0.2.1", ttl: 3, id: 0xfedc }));
  assert.equal(formatIp(ipFromWords(4, view.src0, view.src1, view.src2, view.src3)), "255.0.2.1");
  assert.equal(formatIp(ipFromWords(4, view.dst0, view.dst1, view.dst2, view.dst3)), "198.51.100.7");
  assert.deepEqual(
    { ...view, src3: 0, dst3: 0 },
    {
      ...newPacketView(),
      version: 4,
      headerLength: 20,
      totalLength: 28,
      protocol: PROTOCOL_UDP,
      ttl: 3,
      src2: 0xffff,
      dst2: 0xffff,
      srcPort: 5_000,
      dstPort: 53,
      fragmentId: 0xfedc,
      dontFragment: true,
    },
  );
});

Deno.test("readPacket() reads every field of IPv6", () => {
  const packet = ipv6Packet({
    src: "ffff:eeee::1",
    ttl: 255,
    protocol: 44,
    payload: concat([
      fragment({ next: 6, more: true, id: 0xfedc_ba98 }),
      tcp({ flags: 0x12, data: new Uint8Array(4) }),
    ]),
  });
  const view = read(packet);
  assert.equal(formatIp(ipFromWords(6, view.src0, view.src1, view.src2, view.src3)), "ffff:eeee::1");
  assert.equal(formatIp(ipFromWords(6, view.dst0, view.dst1, view.dst2, view.dst3)), "2001:db8:1::7");
  const { src0, dst0, src1, dst1, src3, dst3 } = view;
  assert.deepEqual(view, {
    ...newPacketView(),
    ...{ src0, dst0, src1, dst1, src3, dst3 },
    version: 6,
    headerLength: 48,
    totalLength: packet.length,
    protocol: PROTOCOL_TCP,
    ttl: 255,
    srcPort: 5_000,
    dstPort: 443,
    tcpFlags: 0x12,
    moreFragments: true,
    fragmentId: 0xfedc_ba98,
    dontFragment: true,
  });
});

Deno.test("readPacket() gives the identifier of an echo as both ports, and of no other message", () => {
  for (
    const [packet, type, code, port] of [
      [ipv4Packet({ protocol: 1, payload: icmp({ type: 8, rest: fromHex("12340001") }) }), 8, 0, 0x1234],
      [ipv4Packet({ protocol: 1, payload: icmp({ type: 0, rest: fromHex("12340001") }) }), 0, 0, 0x1234],
      [ipv4Packet({ protocol: 1, payload: icmp({ type: 3, code: 4, rest: fromHex("00000578") }) }), 3, 4, 0],
      [ipv4Packet({ protocol: 1, payload: icmp({ type: 128, rest: fromHex("12340001") }) }), 128, 0, 0],
      [ipv6Packet({ protocol: 58, payload: icmp({ type: 128, rest: fromHex("12340001") }) }), 128, 0, 0x1234],
      [ipv6Packet({ protocol: 58, payload: icmp({ type: 129, rest: fromHex("12340001") }) }), 129, 0, 0x1234],
      [ipv6Packet({ protocol: 58, payload: icmp({ type: 8, rest: fromHex("12340001") }) }), 8, 0, 0],
      [ipv6Packet({ protocol: 58, payload: icmp({ type: 1, code: 1 }) }), 1, 1, 0],
    ] as const
  ) {
    const view = read(packet);
    assert.deepEqual([view.icmpType, view.icmpCode, view.srcPort, view.dstPort], [type, code, port, port]);
  }
});

Deno.test("readPacket() takes ICMP of the other version for a protocol it does not know", () => {
  for (
    const packet of [
      ipv4Packet({ protocol: PROTOCOL_ICMPV6, payload: icmp({ type: 128, rest: fromHex("12340001") }) }),
      ipv6Packet({ protocol: PROTOCOL_ICMP, payload: icmp({ type: 8, rest: fromHex("12340001") }) }),
    ]
  ) {
    const view = read(packet);
    assert.deepEqual([view.icmpType, view.srcPort], [0, 0]);
  }
});

Deno.test("readPacket() takes unknown protocols and later fragments without looking into them", () => {
  for (const protocol of [0, 2, 41, 47, 50, 59, 132, 255]) {
    assert.equal(read(ipv4Packet({ protocol, payload: new Uint8Array(1) })).protocol, protocol);
    if (protocol !== 0) {
      assert.equal(read(ipv6Packet({ protocol, payload: new Uint8Array() })).protocol, protocol);
    }
  }
  const later = read(ipv4Packet({ payload: new Uint8Array(8).fill(255), fragment: 0x2001 }));
  assert.deepEqual([later.fragmentOffset, later.moreFragments, later.srcPort, later.dontFragment], [
    8,
    true,
    0,
    false,
  ]);
  const later6 = read(ipv6Fragment({ next: 60, offset: 16, id: 9 }, new Uint8Array(5).fill(255)));
  assert.deepEqual([later6.fragmentOffset, later6.protocol, later6.headerLength, later6.fragmentId], [
    16,
    60,
    48,
    9,
  ]);
});

Deno.test("readPacket() leaves nothing of the packet before in the view", () => {
  const samples = Object.values(SAMPLES).concat(
    ipv4Packet({ protocol: 99 }),
    ipv6Packet({ protocol: 99 }),
    ipv4Packet({ fragment: 0x0003 }),
  );
  for (const first of samples) {
    for (const second of samples) {
      const used = newPacketView();
      readPacket(first, 0, first.length, used);
      readPacket(second, 0, second.length, used);
      assert.deepEqual(used, read(second));
    }
  }
});

Deno.test("readPacket() reads a packet in the middle of a buffer", () => {
  for (const packet of Object.values(SAMPLES)) {
    const bytes = concat([new Uint8Array(33).fill(0xff), packet, new Uint8Array(7).fill(0xff)]);
    const view = newPacketView();
    assert.equal(readPacket(bytes, 33, 33 + packet.length, view), undefined);
    assert.deepEqual(view, read(packet));
  }
});

Deno.test("readPacket() answers any bytes with a fault or a view that fits them", () => {
  const corpus = [...readCorpus("packet").values(), ...Object.values(SAMPLES)];
  const mutated = fc.tuple(
    fc.constantFrom(...corpus),
    fc.array(fc.tuple(fc.nat(79), fc.nat(255)), { maxLength: 4 }),
  )
    .map(([packet, patches]) => withIpv4Checksum(patchedBytes(packet, Object.fromEntries(patches))));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 120, size: "max" }), mutated), (bytes) => {
      const view = newPacketView();
      const result = readPacket(bytes, 0, bytes.length, view);
      if (result !== undefined) return;
      assert.equal(view.totalLength, bytes.length);
      assert.ok(view.headerLength >= (view.version === 4 ? 20 : 40) && view.headerLength <= bytes.length);
      for (const value of Object.values(view)) {
        assert.ok(
          typeof value === "boolean" || (Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff),
        );
      }
      assert.ok(readQuotedPacket(bytes, 0, bytes.length, newPacketView()));
    }),
    { numRuns: 3_000 },
  );
});

Deno.test("readQuotedPacket() needs addresses, protocol and ports, and nothing behind them", () => {
  for (const [name, packet] of Object.entries(SAMPLES)) {
    const whole = read(packet);
    const needed = whole.headerLength + 8;
    for (let cut = 0; cut <= packet.length; cut++) {
      const view = newPacketView();
      assert.equal(readQuotedPacket(packet, 0, cut, view), cut >= needed, `${name} cut at ${cut}`);
      if (cut >= needed) assert.deepEqual(view, { ...whole, tcpFlags: 0 });
    }
  }
});

Deno.test("readQuotedPacket() takes a packet whose TTL was changed behind its checksum", () => {
  const view = newPacketView();
  assert.ok(readQuotedPacket(patchedBytes(ipv4Packet(), { 8: 1 }), 0, 28, view));
  assert.equal(view.ttl, 1);
});

Deno.test("decrementTtl() stops before zero and changes nothing then", () => {
  for (const ttl of [0, 1]) {
    for (const packet of [ipv4Packet({ ttl }), ipv6Packet({ ttl })]) {
      const before = packet.slice();
      assert.equal(decrementTtl(packet, 0), false);
      assert.deepEqual(packet, before);
    }
  }
  for (const packet of [ipv4Packet({ ttl: 2 }), ipv6Packet({ ttl: 2 })]) {
    assert.equal(decrementTtl(packet, 0), true);
    assert.equal(read(packet).ttl, 1);
    assert.equal(decrementTtl(packet, 0), false);
  }
});

Deno.test("decrementTtl() keeps the checksum of IPv4 right whatever it is", () => {
  const bytes = concat([new Uint8Array(3), ipv4Packet({ ttl: 2 })]);
  const packet = bytes.subarray(3);
  // The identification takes the checksum through all its values.
  for (let id = 0; id <= 0xffff; id++) {
    packet.set([id >> 8, id], 4);
    packet[8] = 2 + id % 254;
    withIpv4Checksum(packet);
    assert.ok(decrementTtl(bytes, 3));
    const checksum = (packet[10]! << 8) | packet[11]!;
    packet.set([0, 0], 10);
    const [high, low] = slowChecksum(packet.subarray(0, 20));
    assert.ok(checksum === ((high! << 8) | low!) || (checksum % 0xffff === 0), `identification ${id}`);
    packet.set([checksum >> 8, checksum], 10);
    assert.equal(readPacket(bytes, 3, bytes.length, newPacketView()), undefined, `identification ${id}`);
  }
});

Deno.test("isFragment() tells fragments, first and later ones, from whole packets", () => {
  for (const [name, packet] of Object.entries(SAMPLES)) {
    const { moreFragments, fragmentOffset } = read(packet);
    assert.equal(isFragment(packet, 0), moreFragments || fragmentOffset > 0, name);
  }
  // DF is no sign of fragments; the lowest bit of the offset and the one above it are.
  const whole = ipv4Packet();
  assert.deepEqual([0x40, 0x20, 0x01].map((byte) => isFragment(patchedBytes(whole, { 6: byte }), 0)), [
    false,
    true,
    true,
  ]);
  assert.equal(isFragment(patchedBytes(whole, { 7: 1 }), 0), true);
  assert.equal(isFragment(concat([new Uint8Array(3), patchedBytes(whole, { 6: 0x20 })]), 3), true);
  for (const bytes of ["", "45", "60", "ff", "450000000000"]) {
    assert.equal(isFragment(fromHex(bytes), 0), false, bytes);
  }
});
