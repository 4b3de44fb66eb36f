/** `shim.c` joining packets to frames: whatever it joins must come apart into the same packets. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { concat } from "../../../src/base/bytes.ts";
import { needsTool, testNeeding } from "../../support/require_tool.ts";
import {
  ACK,
  CWR,
  ECE,
  FIN,
  makeFrame,
  makePacket,
  packetFaults,
  type PacketOptions,
  PSH,
  RST,
  seal,
  SYN,
  URG,
  VNET,
} from "./packets.ts";
import { ShimLibrary } from "./shim_library.ts";

const NEEDS = [needsTool("gcc")];

testNeeding(NEEDS, "segments in sequence become one frame, exactly as the kernel would hand it over", () => {
  using library = new ShimLibrary();
  for (const version of [4, 6] as const) {
    for (const [last, flags] of [[1_000, ACK], [300, ACK | PSH]] as const) {
      const payload = pattern(9_000 + last);
      const packets = sequence({ version, payload, size: 1_000, flags, options: new Uint8Array(12).fill(1) });
      const frame = makeFrame({
        version,
        payload,
        segment: 1_000,
        flags,
        options: new Uint8Array(12).fill(1),
      });
      assert.deepEqual(library.coalesce(packets), [frame]);
    }
  }
});

testNeeding(NEEDS, "UDP datagrams of one size, the last one shorter, become one frame", () => {
  using library = new ShimLibrary();
  for (const version of [4, 6] as const) {
    const payload = pattern(5_500);
    const packets = [0, 1_000, 2_000, 3_000, 4_000, 5_000].map((at) =>
      makePacket({ version, upper: "udp", payload: payload.subarray(at, at + 1_000) })
    );
    assert.deepEqual(library.coalesce(packets), [
      makeFrame({ version, upper: "udp", payload, segment: 1_000 }),
    ]);
  }
});

testNeeding(NEEDS, "what differs in anything but its place in the stream is not joined", () => {
  using library = new ShimLibrary();
  const lead: PacketOptions = { payload: pattern(100), sequence: 1_000, identification: 5 };
  const next: PacketOptions = { ...lead, sequence: 1_100, identification: 6 };
  const neighbours: Record<string, PacketOptions> = {
    "a gap": { ...next, sequence: 1_101 },
    "an overlap": { ...next, sequence: 1_099 },
    "the same again": { ...next, sequence: 1_000 },
    "another acknowledgement": { ...next, acknowledgement: 8 },
    "another window": { ...next, window: 5_001 },
    "a larger payload": { ...next, payload: pattern(101) },
    "no payload": { ...next, payload: new Uint8Array(0) },
    "options": { ...next, options: new Uint8Array(4).fill(1) },
    "another TTL": { ...next, ttl: 63 },
    "another service": { ...next, service: 3 },
    "another source port": { ...next, sourcePort: 1_112 },
    "another destination port": { ...next, destinationPort: 2_223 },
    "fragments allowed": { ...next, dontFragment: false },
    "FIN": { ...next, flags: ACK | FIN },
    "SYN": { ...next, flags: ACK | SYN },
    "RST": { ...next, flags: ACK | RST },
    "URG": { ...next, flags: ACK | URG },
    "ECE": { ...next, flags: ACK | ECE },
    "CWR": { ...next, flags: ACK | CWR },
    "no ACK": { ...next, flags: PSH },
    "another version": { ...next, version: 6 },
    "another protocol": { ...next, upper: "udp" },
  };
  for (const version of [4, 6] as const) {
    const first = makePacket({ ...lead, version });
    assert.equal(library.coalesce([first, makePacket({ ...next, version })]).length, 1);
    assert.equal(library.coalesce([first, makePacket({ ...next, version, flags: ACK | PSH })]).length, 1);
    for (const [name, options] of Object.entries(neighbours)) {
      const second = makePacket({ version, ...options });
      if (name === "fragments allowed" && version === 6) continue;
      if (name === "another version" && version === 6) continue;
      assert.deepEqual(library.coalesce([first, second]), [first, second].map(alone), `${version} ${name}`);
    }
  }
});

testNeeding(NEEDS, "another urgent pointer is not joined", () => {
  using library = new ShimLibrary();
  const packets = [0, 100].map((sequence) => makePacket({ payload: pattern(100), sequence }));
  packets[1]![39] = 1;
  seal(packets[1]!);
  assert.deepEqual(library.coalesce(packets), packets.map(alone));
});

testNeeding(NEEDS, "identifiers must count up where the packet may be fragmented", () => {
  using library = new ShimLibrary();
  const make = (sequence: number, identification: number) =>
    makePacket({ payload: pattern(100), sequence, identification, dontFragment: false });
  assert.equal(library.coalesce([make(0, 0xffff), make(100, 0), make(200, 1)]).length, 1);
  assert.equal(library.coalesce([make(0, 0xffff), make(100, 1)]).length, 2);
});

testNeeding(NEEDS, "PSH and a short segment end a frame", () => {
  using library = new ShimLibrary();
  const sizes = [[100, ACK | PSH], [100, ACK], [100, ACK | PSH], [100, ACK], [50, ACK], [50, ACK]] as const;
  let at = 0;
  const packets = sizes.map(([size, flags]) => {
    at += size;
    return makePacket({ payload: pattern(size), sequence: at - size, flags });
  });
  const frames = library.coalesce(packets);
  assert.deepEqual(frames.map((frame) => segmentsOf(library, frame).length), [1, 2, 2, 1]);
  assertSame(frames.flatMap((frame) => segmentsOf(library, frame)), packets);
});

testNeeding(NEEDS, "a damaged packet is never joined, so that the kernel still sees the damage", () => {
  using library = new ShimLibrary();
  for (const version of [4, 6] as const) {
    for (const upper of ["tcp", "udp"] as const) {
      for (const damaged of [0, 1, 2]) {
        const packets = [0, 1, 2].map((index) =>
          makePacket({ version, upper, payload: pattern(100), sequence: index * 100 })
        );
        packets[damaged]![packets[damaged]!.length - 1]! ^= 1;
        const given = packets.map((packet) => packet.slice());
        const back = library.coalesce(given).flatMap((frame) => segmentsOf(library, frame));
        assert.deepEqual(
          back.map((packet) => packetFaults(packet).length),
          [0, 1, 2].map((index) => {
            return index === damaged ? 1 : 0;
          }),
        );
        assertSame(back, packets);
      }
    }
  }
  const header = [0, 100].map((sequence) => makePacket({ payload: pattern(100), sequence }));
  header[1]![11]! ^= 1;
  assert.deepEqual(library.coalesce(header), header.map(alone));
});

testNeeding(NEEDS, "UDP without a checksum, fragments and IPv4 options stay alone", () => {
  using library = new ShimLibrary();
  const datagrams = [0, 1].map(() => makePacket({ upper: "udp", payload: pattern(100) }));
  for (const packet of datagrams) packet.fill(0, 26, 28);
  const change = (edit: (packet: Uint8Array) => void) =>
    [0, 1].map((index) => {
      const packet = makePacket({ payload: pattern(100), sequence: index * 100 });
      edit(packet);
      return seal(packet);
    });
  const fragments = change((packet) => packet[6] = 0x20);
  const laterFragments = change((packet) => packet[7] = 8);
  const lengths = change((packet) => packet[3]!--);
  assert.equal(library.coalesce(change(() => {})).length, 1);
  for (const packets of [datagrams, fragments, laterFragments, lengths]) {
    assert.deepEqual(library.coalesce(packets), packets.map(alone));
  }
});

testNeeding(NEEDS, "a frame holds at most 65,535 bytes and 64 packets", () => {
  using library = new ShimLibrary();
  const large = sequence({ version: 4, payload: pattern(130_000), size: 1_400, flags: ACK });
  for (const frame of library.coalesce(large)) assert.ok(frame.length <= VNET + 65_535);
  const small = sequence({ version: 6, payload: pattern(200), size: 1, flags: ACK });
  assert.deepEqual(library.coalesce(small).map((frame) => segmentsOf(library, frame).length), [
    64,
    64,
    64,
    8,
  ]);
});

const flow = fc.record({
  version: fc.constantFrom(4 as const, 6 as const),
  upper: fc.constantFrom("tcp" as const, "udp" as const),
  sourcePort: fc.integer({ min: 1, max: 65_535 }),
});
const step = fc.record({
  flow: fc.nat({ max: 19 }),
  size: fc.constantFrom(0, 1, 100, 100, 100, 1_400, 1_400, 1_400, 1_400, 9_000),
  flags: fc.constantFrom(ACK, ACK, ACK, ACK, ACK, ACK | PSH, ACK | FIN, SYN, ACK | ECE),
  gap: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 1, -5),
  dontFragment: fc.constantFrom(true, true, true, false),
});

testNeeding(NEEDS, "any mix of flows comes apart into the same packets, in order within each flow", () => {
  using library = new ShimLibrary();
  fc.assert(
    fc.property(
      fc.array(flow, { minLength: 20, maxLength: 20 }),
      fc.array(step, { maxLength: 150 }),
      (flows, steps) => {
        const sequences = flows.map(() => 0xffffffff - 3_000);
        const packets = steps.map(({ flow, size, gap, ...fields }, index) => {
          const sequence = sequences[flow]! + gap >>> 0;
          sequences[flow] = sequence + size >>> 0;
          return makePacket({
            ...flows[flow]!,
            ...fields,
            sequence,
            identification: index,
            payload: pattern(size),
          });
        });
        const frames = library.coalesce(packets);
        assert.ok(frames.length <= packets.length);
        const back = frames.flatMap((frame) => segmentsOf(library, frame));
        assert.deepEqual(back.flatMap(packetFaults), []);
        const before = byFlow(packets), after = byFlow(back);
        assert.deepEqual([...after.keys()].toSorted(), [...before.keys()].toSorted());
        for (const [key, list] of before) assertSame(after.get(key)!, list);
      },
    ),
    { numRuns: 150 },
  );
});

testNeeding(NEEDS, "places outside the batch are refused, the others are written", () => {
  using library = new ShimLibrary();
  const packet = makePacket({ payload: pattern(100) });
  const bytes = concat([packet, packet]);
  const write = (starts: number[], ends: number[]) =>
    library.coalesceRaw({
      bytes: bytes.slice(),
      starts: new Uint32Array(starts),
      ends: new Uint32Array(ends),
    });
  assert.equal(write([0], [140]).result, 1);
  for (
    const [start, end] of [[0, 0], [140, 0], [0, 281], [280, 281], [300, 400], [0, 2 ** 32 - 1], [
      2 ** 32 - 1,
      3,
    ]]
  ) {
    assert.ok(write([start!], [end!]).result < 0, `${start}..${end}`);
  }
});

testNeeding(NEEDS, "random bytes pass unchanged", () => {
  using library = new ShimLibrary();
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 80 }),
    fc.uint8Array({ minLength: 20, maxLength: 80 }).map((bytes) => {
      bytes.set([0x45, 0, 0, bytes.length, 0, 0, 0, 0, 64, bytes.length & 1 ? 6 : 17]);
      return bytes;
    }),
    fc.uint8Array({ minLength: 40, maxLength: 80 }).map((bytes) => {
      bytes.set([0x60, 0, 0, 0, 0, bytes.length - 40, bytes.length & 1 ? 6 : 17]);
      return bytes;
    }),
  );
  fc.assert(
    fc.property(fc.array(bytes, { minLength: 1, maxLength: 30 }), (packets) => {
      const frames = library.coalesce(packets.flatMap((packet) => [packet, packet]));
      const back = frames.map((frame) => frame.subarray(VNET).join()).toSorted();
      assert.deepEqual(back, packets.flatMap((packet) => [packet.join(), packet.join()]).toSorted());
    }),
    { numRuns: 500 },
  );
});

/** TCP packets of one flow that carry `payload`; `flags` are those of the last. */
function sequence(options: {
  version: 4 | 6;
  payload: Uint8Array;
  size: number;
  flags: number;
  options?: Uint8Array;
}): Uint8Array<ArrayBuffer>[] {
  const { payload, size } = options;
  const packets: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 0; at < payload.length; at += size) {
    const flags = at + size >= payload.length ? options.flags : ACK;
    const part = payload.subarray(at, at + size);
    packets.push(
      makePacket({ ...options, flags, payload: part, sequence: 1 + at, identification: 1 + at / size }),
    );
  }
  return packets;
}

/** A frame of one packet. */
function alone(packet: Uint8Array): Uint8Array {
  return concat([new Uint8Array(VNET), packet]);
}

function segmentsOf(library: ShimLibrary, frame: Uint8Array): readonly Uint8Array[] {
  return library.segment(frame.slice(), { size: 1 << 20, max: 70_000 }).packets;
}

/** Where fragmenting is forbidden, an identifier means nothing (RFC 6864) and may change. */
function assertSame(packets: readonly Uint8Array[], expected: readonly Uint8Array[]): void {
  const strip = (packet: Uint8Array) => {
    const copy = packet.slice();
    if (copy[0]! >> 4 === 4 && (copy[6]! & 0x40) !== 0) copy.fill(0, 4, 6).fill(0, 10, 12);
    return copy;
  };
  assert.deepEqual(packets.map(strip), expected.map(strip));
}

function byFlow(packets: readonly Uint8Array[]): Map<string, Uint8Array[]> {
  const flows = new Map<string, Uint8Array[]>();
  for (const packet of packets) {
    const isV4 = packet[0]! >> 4 === 4;
    const key = `${isV4} ${packet[isV4 ? 9 : 6]} ${packet.subarray(isV4 ? 20 : 40, isV4 ? 24 : 44).join()}`;
    flows.set(key, [...flows.get(key) ?? [], packet]);
  }
  return flows;
}

/** Bytes that differ from place to place. */
function pattern(length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, index) => index * 31 + (index >> 8) & 0xff);
}
