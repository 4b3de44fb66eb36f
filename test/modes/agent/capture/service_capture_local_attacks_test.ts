/** Programs of the capturing machine that mean ill, its own floods and broken packets, and what a killed agent leaves. */

import assert from "node:assert/strict";
import { withDeadline } from "../../../../src/base/async.ts";
import { onGround } from "../../../io/network/ground.ts";
import { eventually } from "../../../support/eventually.ts";
import { malformedPackets } from "../../../support/malformed_packets.ts";
import { ManagedProcess } from "../../../support/processes.ts";
import { RawSender } from "../../../support/raw_socket.ts";
import { testNeeding } from "../../../support/require_tool.ts";
import { sealed } from "../../../support/tunnel_packets.ts";
import { echo, packet, tcp, udp } from "../../../dataplane/tunnel/packets.ts";
import {
  CAPTURE_NEEDS,
  onCaptureGround,
  refusal,
  startCapture,
  testNetwork,
  virtual,
} from "./capture_ground.ts";

const WEB = virtual(100);
const OWN = virtual(2);
const PEER = virtual(3);
const SYN = 2;

/** Packets at a time: a device holds 500. */
const BURST = 250;

testNeeding(
  CAPTURE_NEEDS,
  "a flood of SYNs holds so many connections and no more, and who is too many is told",
  () =>
    onCaptureGround(async ({ network, capture }) => {
      const waiting: ((error: Error) => void)[] = [];
      const { connect } = network;
      network.connect = () => new Promise((_, reject) => waiting.push(reject));
      using raw = new RawSender();
      for (let port = 1_024; port < 1_024 + 20_000; port += BURST) {
        for (let i = 0; i < BURST; i++) {
          raw.send(sealed(tcp({ src: OWN[4], dst: WEB[4], srcPort: port + i, dstPort: 80, flags: SYN })));
        }
        await eventually(() => waiting.length >= Math.min(port - 1_024, 16_384 - BURST));
      }
      await eventually(() => capture.status.tcp === 16_384);
      await assert.rejects(
        withDeadline(5_000, () => Deno.connect({ hostname: WEB[4], port: 81 })),
        Deno.errors.ConnectionRefused,
      );
      assert.equal(waiting.length, 16_384);
      for (const reject of waiting) reject(refusal("upstream-refused"));
      await eventually(() => capture.status.tcp === 0);
      network.connect = connect;
      (await Deno.connect({ hostname: WEB[4], port: 82 })).close();
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "ten thousand UDP flows are 4,096, and those that were there first go on",
  () =>
    onCaptureGround(async ({ network, capture }) => {
      const first = Deno.listenDatagram({ transport: "udp", hostname: "0.0.0.0", port: 0 });
      using _closing = { [Symbol.dispose]: () => first.close() };
      const to = { transport: "udp", hostname: WEB[4], port: 7 } as const;
      await first.send(new Uint8Array([1]), to);
      await first.receive();
      using raw = new RawSender();
      for (let port = 10_000; port < 20_000; port += BURST) {
        for (let i = 0; i < BURST; i++) {
          raw.send(sealed(udp({ src: OWN[4], dst: WEB[4], srcPort: port + i, dstPort: 9 })));
        }
        // Each burst is read before the next one.
        await first.send(new Uint8Array([2]), to);
        await withDeadline(5_000, () => first.receive());
      }
      assert.equal(capture.status.datagrams, 4_096);
      assert.equal(network.asked.length, 4_096);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "packets that are broken, in pieces, or from nobody here begin no flow, and stop nothing",
  () =>
    onCaptureGround(async ({ network, capture }) => {
      using raw = new RawSender();
      const source = [OWN[4], OWN[6]] as const;
      const destination = [WEB[4], WEB[6]] as const;
      // The kernel refuses some, and mends the lengths and checksums of others, which are flows then.
      for (const bytes of malformedPackets({ source, destination }, 3_000)) {
        if (bytes.length > 0) raw.send(bytes);
      }
      (await Deno.connect({ hostname: WEB[4], port: 80 })).close();
      await eventually(() => capture.status.tcp === 0);
      const { datagrams } = capture.status;
      network.asked.length = 0;
      for (const src of ["10.77.0.9", "192.0.2.1", PEER[4], WEB[4], virtual(1)[4]]) {
        raw.send(sealed(udp({ src, dst: WEB[4] })));
        raw.send(sealed(tcp({ src, dst: WEB[4], flags: SYN })));
        raw.send(sealed(echo({ src, dst: WEB[4] })));
      }
      for (const src of ["fd77::9", "2001:db8::1", PEER[6], WEB[6]]) {
        raw.send(sealed(udp({ src, dst: WEB[6] })));
        raw.send(sealed(tcp({ src, dst: WEB[6], flags: SYN })));
      }
      const whole = sealed(udp({ src: OWN[4], dst: WEB[4], data: new Uint8Array(64) })).subarray(20);
      const common = { src: OWN[4], dst: WEB[4], protocol: 17, id: 7, dontFragment: false };
      raw.send(packet({ ...common, payload: whole.subarray(0, 32), moreFragments: true }));
      raw.send(packet({ ...common, payload: whole.subarray(32), fragmentOffset: 32 }));
      // Answers, resets and data of connections that nobody has.
      for (const flags of [0x10, 0x12, 0x04, 0x11, 0, 0x29, 0xff, SYN | 1, SYN | 4]) {
        raw.send(sealed(tcp({ src: OWN[4], dst: WEB[4], srcPort: 5_000, dstPort: 80, flags })));
        raw.send(sealed(tcp({ src: OWN[4], dst: PEER[4], srcPort: 5_000, dstPort: 1_024, flags })));
      }
      using conn = await Deno.connect({ hostname: WEB[4], port: 80 });
      await conn.write(new Uint8Array([1]));
      assert.equal(await conn.read(new Uint8Array(9)), 1);
      assert.deepEqual(network.asked, [{ service: "web", port: 80 }]);
      assert.equal(capture.status.tcp, 1);
      assert.equal(capture.status.datagrams, datagrams);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "nobody reaches the invented peer, or another's connection by it",
  () =>
    onCaptureGround(async ({ ground, network }) => {
      using conn = await Deno.connect({ hostname: WEB[4], port: 80 });
      const mapped = /10\.101\.0\.2:(\d+)\s+10\.101\.0\.3:(\d+)/.exec(await ground.shell("ss -Htn"));
      assert.ok(mapped);
      for (const port of [Number(mapped[1]), Number(mapped[2])]) {
        for (const hostname of [PEER[4], PEER[6]]) {
          await assert.rejects(
            withDeadline(5_000, () => Deno.connect({ hostname, port })),
            /route|refused|unreachable|ermission/i,
          );
        }
      }
      await conn.write(new Uint8Array([1, 2]));
      assert.equal(await conn.read(new Uint8Array(9)), 2);
      assert.equal(network.asked.length, 1);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "a killed agent leaves nobody to ask in the services' place: nothing for them leaves the machine",
  () =>
    onGround(async (ground) => {
      const before = await ground.shell("ip route; ip -6 route");
      const script = new URL("./capture_and_wait.ts", import.meta.url).pathname;
      const run = ["run", "--quiet", "--no-check", "-A", "--unstable-net", script, ground.directory];
      const killed = ManagedProcess.spawn(ground.command([Deno.execPath(), ...run]));
      await killed.waitForLine(/^ready$/);
      await killed.stop({ signal: "SIGKILL" });
      for (const address of [WEB[4], WEB[6], virtual(1)[4], virtual(1)[6]]) {
        await assert.rejects(Deno.connect({ hostname: address, port: 53 }), /route|unreachable/i, address);
        const socket = Deno.listenDatagram({
          ...{ transport: "udp", port: 0 },
          hostname: address.includes(":") ? "::" : "0.0.0.0",
        });
        await assert.rejects(
          socket.send(new Uint8Array([1]), { transport: "udp", hostname: address, port: 53 }),
          /route|unreachable/i,
        );
        socket.close();
      }
      const capture = await startCapture(ground, { network: testNetwork(1) });
      await capture.close();
      assert.equal(await ground.shell("ip route; ip -6 route"), before);
    }),
);
