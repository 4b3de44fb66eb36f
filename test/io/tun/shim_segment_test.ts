/** `shim.c` cutting frames of the kernel to packets, judged by `packets.ts`. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { concat } from "../../../src/base/bytes.ts";
import { needsTool, testNeeding } from "../../support/require_tool.ts";
import {
  ACK,
  CWR,
  FIN,
  headerLength,
  makeFrame,
  makePacket,
  packetFaults,
  payloadOf,
  PSH,
  tcpOf,
  VNET,
} from "./packets.ts";
import { DONE, ShimLibrary } from "./shim_library.ts";

const NEEDS = [needsTool("gcc")];
const EINVAL = -22;

const payloads = fc.integer({ min: 0, max: 65_535 - 40 - 60 }).map(pattern);
const frames = fc.record({
  version: fc.constantFrom(4 as const, 6 as const),
  upper: fc.constantFrom("tcp" as const, "udp" as const),
  payload: payloads,
  segment: fc.integer({ min: 64, max: 9_000 }),
  sequence: fc.integer({ min: 0, max: 0xffffffff }),
  identification: fc.integer({ min: 0, max: 0xffff }),
  options: fc.integer({ min: 0, max: 10 }).map((words) => pattern(words * 4)),
  flags: fc.constantFrom(ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR, ACK | PSH | CWR | FIN),
});

testNeeding(
  NEEDS,
  "a frame of any size is cut to packets that are whole and carry its bytes in order",
  () => {
    using library = new ShimLibrary();
    fc.assert(
      fc.property(frames, (options) => {
        const { packets, next } = library.segment(makeFrame(options));
        assert.equal(next, DONE);
        assert.equal(packets.length, Math.max(1, Math.ceil(options.payload.length / options.segment)));
        for (const packet of packets) {
          assert.deepEqual(packetFaults(packet), []);
          assert.ok(payloadOf(packet).length <= options.segment);
        }
        assert.deepEqual(concat(packets.map(payloadOf)), options.payload);
        if (options.upper === "tcp") checkTcp(packets, options);
      }),
      { numRuns: 150 },
    );
  },
);

function checkTcp(
  packets: readonly Uint8Array[],
  options: { sequence: number; identification: number; flags: number; segment: number; version: 4 | 6 },
): void {
  for (const [index, packet] of packets.entries()) {
    const isLast = index === packets.length - 1;
    const { sequence, flags, identification } = tcpOf(packet);
    assert.equal(sequence, (options.sequence + index * options.segment) % 2 ** 32);
    assert.equal(flags & (FIN | PSH), isLast ? options.flags & (FIN | PSH) : 0);
    assert.equal(flags & CWR, index === 0 ? options.flags & CWR : 0);
    if (options.version === 4) assert.equal(identification, options.identification + index & 0xffff);
  }
}

testNeeding(NEEDS, "a frame too large for one batch goes on where the last one ended", () => {
  using library = new ShimLibrary();
  fc.assert(
    fc.property(
      frames,
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 9_100, max: 30_000 }),
      (options, max, size) => {
        const frame = makeFrame(options);
        const whole = library.segment(frame).packets;
        const pieces: Uint8Array[] = [];
        for (let next = 0; next !== DONE;) {
          const cut = library.segment(frame, { next, size, max });
          assert.ok(cut.packets.length > 0);
          pieces.push(...cut.packets);
          next = cut.next;
        }
        assert.deepEqual(pieces, whole);
      },
    ),
    { numRuns: 50 },
  );
});

testNeeding(NEEDS, "a batch with no room takes nothing and changes nothing", () => {
  using library = new ShimLibrary();
  const frame = makeFrame({ payload: pattern(5_000), segment: 1_000 });
  assert.deepEqual(library.segment(frame, { size: 1_039 }), { packets: [], result: 0, next: 0 });
  assert.equal(library.segment(frame, { size: 1_040 }).packets.length, 1);
  assert.equal(library.segment(frame, { max: 0 }).result, 0);
});

testNeeding(NEEDS, "a single packet passes as it is, or gets the checksum that was left to us", () => {
  using library = new ShimLibrary();
  for (const version of [4, 6] as const) {
    for (const upper of ["tcp", "udp", "icmp"] as const) {
      for (const length of [0, 1, 2, 3, 7, 8, 9, 100, 1_399]) {
        const packet = makePacket({ version, upper, payload: pattern(length) });
        const plain = library.segment(concat([new Uint8Array(VNET), packet]));
        assert.deepEqual([plain.packets, plain.next], [[packet], DONE]);
        if (upper === "icmp") continue;
        const partial = makeFrame({ version, upper, payload: pattern(length), segment: 0 });
        partial[1] = 0;
        assert.deepEqual(library.segment(partial).packets, [packet], `${version} ${upper} ${length}`);
      }
    }
  }
});

testNeeding(NEEDS, "a UDP checksum that comes to zero is sent as ffff [RFC768]", () => {
  using library = new ShimLibrary();
  const zero = findZero();
  const frame = makeFrame({ upper: "udp", payload: zero, segment: zero.length });
  const [packet] = library.segment(frame).packets;
  assert.deepEqual(packet, makePacket({ upper: "udp", payload: zero }));
  assert.deepEqual([...packet!.subarray(26, 28)], [0xff, 0xff]);
});

/** A payload for which the sum is zero: its last word makes up for the rest. */
function findZero(): Uint8Array<ArrayBuffer> {
  const payload = new Uint8Array(4);
  const packet = makePacket({ upper: "udp", payload });
  payload.set(packet.subarray(26, 28), 2);
  return payload;
}

testNeeding(NEEDS, "headers that contradict the frame are refused, none reads past its end", () => {
  using library = new ShimLibrary();
  const good = makeFrame({ payload: pattern(3_000), segment: 1_000 });
  const broken: Record<string, (view: DataView) => void> = {
    "no segment size": (view) => view.setUint16(4, 0, true),
    "no checksum to complete": (view) => view.setUint8(0, 0),
    "unknown kind": (view) => view.setUint8(1, 3),
    "IPv6 kind of an IPv4 packet": (view) => view.setUint8(1, 4),
    "transport inside the IP header": (view) => view.setUint16(6, 19, true),
    "transport past the end": (view) => view.setUint16(6, 65_535, true),
    "IP header of another length": (view) => view.setUint8(VNET, 0x46),
    "TCP header below 20 bytes": (view) => view.setUint8(VNET + 20 + 12, 0x40),
    "no IP version": (view) => view.setUint8(VNET, 0x05),
  };
  for (const [name, change] of Object.entries(broken)) {
    const frame = good.slice();
    change(new DataView(frame.buffer));
    assert.deepEqual(library.segment(frame), { packets: [], result: EINVAL, next: DONE }, name);
  }
  const whole = good.slice();
  whole[1] = 0;
  new DataView(whole.buffer).setUint16(8, 65_000, true);
  assert.equal(library.segment(whole).result, EINVAL);
  assert.equal(library.segment(good, { next: 3_001 }).result, EINVAL);
  const largest = concat([new Uint8Array(VNET), new Uint8Array(65_535)]);
  assert.equal(library.segment(largest).result, 1);
  assert.equal(library.segment(concat([largest, new Uint8Array(1)])).result, EINVAL);
});

testNeeding(NEEDS, "a frame cut short at any byte is refused or makes packets that fit it", () => {
  using library = new ShimLibrary();
  const upperOf = { tcp: { upper: "tcp" }, udp: { upper: "udp" } } as const;
  for (const version of [4, 6] as const) {
    for (const upper of Object.values(upperOf)) {
      const frame = makeFrame({ version, ...upper, payload: pattern(40), segment: 16 });
      const least = VNET + headerLength(frame.subarray(VNET));
      for (let length = 0; length < frame.length; length++) {
        const { packets, result } = library.segment(frame.slice(0, length));
        if (length < least) assert.equal(result, EINVAL);
        assert.ok(packets.every((packet) => packet.length <= length));
      }
    }
  }
});

testNeeding(NEEDS, "random bytes never make it write or read outside", () => {
  using library = new ShimLibrary();
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 0, maxLength: 200 }),
      fc.uint8Array({ minLength: VNET, maxLength: VNET }),
      fc.integer({ min: 0, max: 300 }),
      (body, header, size) => {
        header[1] = [0, 1, 4, 5, 0x81, header[1]!][header[1]! % 6]!;
        header[7] = 0;
        const frame = concat([header, body]);
        const { packets } = library.segment(frame, { size, max: 16 });
        assert.ok(packets.every((packet) => packet.length <= frame.length));
      },
    ),
    { numRuns: 3_000 },
  );
});

/** Bytes that differ from place to place. */
function pattern(length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, index) => index * 31 + (index >> 8) & 0xff);
}
