/** Capture is given whatever a device can give: nothing makes it fail, and what is broken begins nothing. */

import { setImmediate } from "node:timers";
import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp, parsePrefix } from "../../../src/base/ip.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { Capture } from "../../../src/dataplane/capture/capture.ts";
import { CaptureAddresses } from "../../../src/dataplane/capture/capture_addresses.ts";
import { AddressSet } from "../../../src/dataplane/tunnel/address_set.ts";
import { eventually } from "../../support/eventually.ts";
import { malformedPackets } from "../../support/malformed_packets.ts";
import { sealed } from "../../support/tunnel_packets.ts";
import { FakeDevice } from "../tunnel/fakes.ts";
import { ip, packet, tcp, udp } from "../tunnel/packets.ts";

const POOLS = {
  zone: "ginnel.internal",
  ipv4: parsePrefix("10.101.0.0/16")!,
  ipv6: parsePrefix("fd12:3456:789a:1::/64")!,
};
const SERVICE = { 4: "10.101.0.100", 6: "fd12:3456:789a:1::64" } as const;
const PROGRAM = { 4: "10.101.0.2", 6: "fd12:3456:789a:1::2" } as const;

Deno.test("broken packets of every kind, and pieces of packets, begin no flow", async () => {
  await using ground = start();
  const ends = { source: [PROGRAM[4], PROGRAM[6]], destination: [SERVICE[4], SERVICE[6]] } as const;
  ground.device.arrive(
    ...malformedPackets(ends, 5_000).filter((bytes) => bytes.length > 0 && !isFine(bytes)),
  );
  for (const version of [4, 6] as const) {
    const whole = sealed(udp({ src: PROGRAM[version], dst: SERVICE[version], data: new Uint8Array(99) }));
    for (let end = 1; end < whole.length; end++) ground.device.arrive(whole.slice(0, end));
    ground.device.arrive(new Uint8Array([...whole, 0]));
    const syn = sealed(tcp({ src: PROGRAM[version], dst: SERVICE[version], flags: 2 }));
    for (let end = 1; end < syn.length; end++) ground.device.arrive(syn.slice(0, end));
  }
  const common = { src: PROGRAM[4], dst: SERVICE[4], protocol: 17, id: 7, dontFragment: false };
  const payload = sealed(udp({ src: PROGRAM[4], dst: SERVICE[4], data: new Uint8Array(64) })).subarray(20);
  ground.device.arrive(packet({ ...common, payload: payload.slice(0, 32), moreFragments: true }));
  ground.device.arrive(packet({ ...common, payload: payload.slice(32), fragmentOffset: 32 }));
  await ground.stillServes();
  assert.deepEqual(ground.asked.filter((what) => what !== `tcp ${PROGRAM[4]} 443`), [`udp ${SERVICE[4]} 9`]);
});

Deno.test("fuzz: bits of good packets turned, and packets made up, stop nothing", async () => {
  await using ground = start();
  const good = ([4, 6] as const).flatMap((version) => {
    const ends = { src: PROGRAM[version], dst: SERVICE[version] };
    return [sealed(udp(ends)), sealed(tcp({ ...ends, flags: 2 })), sealed(tcp({ ...ends, flags: 4 }))];
  });
  const turned = fc.tuple(fc.constantFrom(...good), fc.array(fc.nat(60 * 8 - 1), { maxLength: 6 })).map(
    ([bytes, bits]) => {
      const copy = bytes.slice();
      for (const bit of bits) copy[(bit >> 3) % copy.length]! ^= 1 << (bit & 7);
      return copy;
    },
  );
  const invented = fc.uint8Array({ minLength: 1, maxLength: 120 });
  fc.assert(fc.property(fc.oneof(turned, invented), (bytes) => ground.device.arrive(bytes)), {
    numRuns: 3_000,
  });
  await ground.stillServes();
});

/** Some are broken only for who forwards them, or were given what they had before. */
function isFine(bytes: Uint8Array): boolean {
  const version = bytes[0]! >> 4 === 6 ? 6 : 4;
  const header = version === 4 ? 20 : 40;
  const srcPort = (bytes[header] ?? 0) << 8 | (bytes[header + 1] ?? 0);
  const ends = { src: PROGRAM[version], dst: SERVICE[version], srcPort };
  return (version === 4 && bytes[8] === 0) || bytes.toHex() === udp(ends).toHex();
}

function start() {
  const device = new FakeDevice();
  const asked: string[] = [];
  const never = Promise.withResolvers<never>();
  never.promise.catch(() => {});
  const capture = new Capture({
    device,
    addresses: new CaptureAddresses(POOLS),
    ports: {
      match: (address, { protocol, port }) => {
        asked.push(`${protocol} ${formatIp(address)} ${port}`);
        return "unknown";
      },
      connect: () => never.promise,
      connectDatagrams: () => never.promise,
      refusalOf: () => "unreachable",
      answerDns: (query) => query,
    },
    listeners: { 4: 9_999, 6: 9_999 },
    schedule: setImmediate,
    now: () => performance.now(),
    logger: SILENT_LOGGER,
  });
  capture.setSources(new AddressSet([...Object.values(PROGRAM)].map(ip)));
  const running = capture.run();
  return {
    device,
    asked,
    /** An honest packet behind all others is seen. */
    stillServes: async () => {
      device.arrive(sealed(udp({ src: PROGRAM[4], dst: SERVICE[4], srcPort: 8, dstPort: 9 })));
      await eventually(() => asked.at(-1) === `udp ${SERVICE[4]} 9`);
    },
    [Symbol.asyncDispose]: async () => {
      await capture.end();
      capture.close();
      await running;
    },
  };
}
