/** The interface against the kernel's own TCP, UDP and ICMP, in namespaces. */

import assert from "node:assert/strict";
import { PacketBatch } from "../../../src/dataplane/tunnel/packet_batch.ts";
import type { PacketDevice } from "../../../src/dataplane/tunnel/packet_device.ts";
import { openTun } from "../../../src/io/tun/device.ts";
import { Network } from "../../support/namespaces.ts";
import { ManagedProcess, runCommand } from "../../support/processes.ts";
import { testNeeding } from "../../support/require_tool.ts";
import { makePacket, packetFaults, payloadOf } from "./packets.ts";
import type { Transfer } from "./peer.ts";
import { ip, openInside, TUN_NEEDS, TunPair } from "./tun_pair.ts";

const PEER = new URL("./peer.ts", import.meta.url).pathname;
const PORT = 7_000;
const MEBIBYTE = 1 << 20;

for (const [version, host] of [[4, "10.9.0.2"], [6, "fd09::2"]] as const) {
  testNeeding(TUN_NEEDS, `TCP over IPv${version} arrives intact both ways, cut and joined`, async () => {
    await using pair = await TunPair.create();
    await using _server = await serve(pair);
    for (const size of [1, MEBIBYTE, 50 * MEBIBYTE]) {
      const { sent, arrived, returned }: Transfer = JSON.parse(
        await peer(pair, ["tcp", host, `${PORT}`, `${size}`]),
      );
      assert.deepEqual([arrived, returned], [sent, sent], `${size}`);
    }
    for (const [side, carried] of pair.carried.entries()) {
      assert.deepEqual(carried.faults.slice(0, 5), []);
      assert.equal(carried.refused, 0);
      // 50 MiB went in large frames: cut into dozens of packets, and joined again on the other side.
      assert.ok(carried.most >= 40, `${carried.most}`);
      const [sender, receiver] = [
        await pair.frames(side as 0 | 1),
        await pair.frames(1 - side as 0 | 1),
      ];
      assert.ok(carried.packets > 3 * sender.sent, `${carried.packets} packets of ${sender.sent} frames`);
      assert.ok(
        carried.packets > 3 * receiver.taken,
        `${carried.packets} packets in ${receiver.taken} frames`,
      );
    }
  });

  testNeeding(TUN_NEEDS, `UDP datagrams of every size cross over IPv${version}`, async () => {
    await using pair = await TunPair.create();
    await using _server = await serve(pair);
    const largest = 1_380 - (version === 4 ? 28 : 48);
    assert.equal(await peer(pair, ["udp", host, `${PORT}`, "0", `${largest}`]), `${largest + 1}\n`);
    // Beyond the MTU the kernel makes fragments of them.
    for (const size of [largest + 1, 9_000, 65_000]) {
      assert.equal(await peer(pair, ["udp", host, `${PORT}`, `${size}`, `${size}`]), "1\n");
    }
    assert.deepEqual(pair.carried.map(({ faults, refused }) => [faults.slice(0, 5), refused]), [[[], 0], [
      [],
      0,
    ]]);
  });

  testNeeding(
    TUN_NEEDS,
    `the kernel answers echo requests of every kind of size over IPv${version}`,
    async () => {
      await using network = await Network.create(["a"]);
      const device = await openInside(network.host("a"), { addresses: ["10.9.0.2/24", "fd09::2/64"] });
      const largest = 1_380 - (version === 4 ? 28 : 48);
      const batch = new PacketBatch({ maxPackets: 64, maxBytes: 1 << 18 });
      for (const size of [0, 1, 2, 7, 8, 56, 1_200, largest]) {
        const payload = new Uint8Array(size).map((_, index) => index * 7);
        batch.clear();
        batch.add(makePacket({ version, upper: "icmp", payload, sequence: size }));
        assert.equal(device.write(batch), 0);
        const reply = await readUntil(
          device,
          (packet) => packet[version === 4 ? 20 : 40] === (version === 4 ? 0 : 129),
        );
        assert.deepEqual(packetFaults(reply), []);
        assert.deepEqual([...reply.subarray(version === 4 ? 28 : 48)], [...payload]);
      }
      device.close();
    },
  );
}

testNeeding(TUN_NEEDS, "joined UDP reaches a socket as the datagrams that were written", async () => {
  await using network = await Network.create(["a"]);
  const device = await openInside(network.host("a"), { addresses: ["10.9.0.2/24"] });
  await using _server = await startServer(network.host("a"));
  const batch = new PacketBatch({ maxPackets: 256, maxBytes: 1 << 18 });
  const sizes = [...Array(20).fill(1_000), 400];
  for (const [index, size] of sizes.entries()) {
    batch.add(makePacket({
      upper: "udp",
      sourcePort: 9_000,
      destinationPort: PORT,
      payload: new Uint8Array(size).fill(index),
    }));
  }
  assert.equal(device.write(batch), 0);
  const seen: number[][] = [];
  await readUntil(device, (packet) => {
    if (packet[9] === 17) seen.push([payloadOf(packet).length, payloadOf(packet)[0]!]);
    return seen.length === sizes.length;
  });
  assert.deepEqual(seen, sizes.map((size, index) => [size, index]));
  device.close();
});

testNeeding(TUN_NEEDS, "the MTU is set when it opens and whenever asked", async () => {
  const device = openTun({ name: name("m"), mtu: 1_280 });
  assert.equal(await mtuOf(device.name), 1_280);
  device.setMtu(1_412);
  assert.equal(await mtuOf(device.name), 1_412);
  assert.throws(() => device.setMtu(10), { code: "ERR_TUN_MTU" });
  device.close();
});

testNeeding(TUN_NEEDS, "closing ends a wait, removes the interface, and is done once", async () => {
  const device = openTun({ name: name("c"), mtu: 1_280 });
  const waiting = device.readable();
  await assert.rejects(() => device.readable(), TypeError);
  device.close();
  device.close();
  assert.equal(await waiting, false);
  assert.equal(await device.readable(), false);
  await assert.rejects(() => ip(["link", "show", device.name]));
  const batch = new PacketBatch({ maxPackets: 2, maxBytes: 4_096 });
  batch.add(makePacket());
  assert.equal(device.write(batch), 1);
  assert.equal(device.read(batch), 0);
  assert.equal(batch.count, 0);
});

testNeeding(TUN_NEEDS, "what the kernel refuses is counted", async () => {
  await using network = await Network.create(["a"]);
  const device = await openInside(network.host("a"), { addresses: ["10.9.0.2/24"] });
  const batch = new PacketBatch({ maxPackets: 8, maxBytes: 8_192 });
  batch.add(makePacket({ upper: "udp" }));
  batch.add(Uint8Array.of(0x00, 1, 2, 3));
  assert.equal(device.write(batch), 1);
  await ip(["-n", network.host("a").namespace, "link", "set", device.name, "down"]);
  assert.equal(device.write(batch), 2);
  batch.count = 9;
  assert.throws(() => device.write(batch), RangeError);
  device.close();
});

testNeeding(TUN_NEEDS, "an interface that somebody removes is reported lost", async () => {
  const device = openTun({ name: name("l"), mtu: 1_280 });
  const waiting = device.readable();
  await ip(["link", "del", device.name]);
  await waiting;
  const batch = new PacketBatch({ maxPackets: 8, maxBytes: 8_192 });
  assert.throws(() => device.read(batch), { code: "ERR_TUN_LOST" });
  device.close();
});

testNeeding(TUN_NEEDS, "frames too large for the batch are continued by the next read", async () => {
  await using pair = await TunPair.create({ maxPackets: 3, maxBytes: 4_300 });
  await using _server = await serve(pair);
  const { sent, arrived, returned }: Transfer = JSON.parse(
    await peer(pair, ["tcp", "10.9.0.2", `${PORT}`, `${MEBIBYTE}`]),
  );
  assert.deepEqual([arrived, returned], [sent, sent]);
  assert.equal(pair.carried[0].most, 3);
  assert.deepEqual(pair.carried.flatMap(({ faults }) => faults), []);
});

function serve(pair: TunPair): Promise<ManagedProcess> {
  return startServer(pair.hosts[1]);
}

async function startServer(host: { command(command: readonly string[]): string[] }): Promise<ManagedProcess> {
  const server = ManagedProcess.spawn(host.command([Deno.execPath(), "run", "-A", PEER, "serve", `${PORT}`]));
  await server.waitForLine(/ready/);
  return server;
}

function peer(pair: TunPair, args: readonly string[]): Promise<string> {
  return runCommand(pair.hosts[0].command(["timeout", "120", Deno.execPath(), "run", "-A", PEER, ...args]));
}

/** Reads until `wanted` says so of a packet; returns that. */
async function readUntil(
  device: PacketDevice,
  wanted: (packet: Uint8Array) => boolean,
): Promise<Uint8Array> {
  const batch = new PacketBatch({ maxPackets: 64, maxBytes: 1 << 18 });
  for (;;) {
    const count = device.read(batch);
    for (let index = 0; index < count; index++) {
      const packet = batch.bytes.slice(batch.starts[index], batch.ends[index]);
      if (wanted(packet)) return packet;
    }
    if (count === 0) await device.readable();
  }
}

async function mtuOf(device: string): Promise<number> {
  const [link] = JSON.parse(await ip(["-j", "link", "show", device]));
  return link.mtu;
}

function name(purpose: string): string {
  return `gt${Deno.pid % 100_000}${purpose}`;
}
