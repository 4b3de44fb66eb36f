import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../../src/base/bytes.ts";
import type { ByteChannel } from "../../../src/base/channel.ts";
import { ProtocolError } from "../../../src/base/errors.ts";
import { type IpPrefix, parseIp, parsePrefix, prefixRange } from "../../../src/base/ip.ts";
import { MAX_WAITING_BYTES, MAX_WAITING_CAPSULES } from "../../../src/dataplane/tunnel/capsule_sender.ts";
import { ConnectIp } from "../../../src/dataplane/tunnel/connect_ip.ts";
import { PACKET_HEADROOM } from "../../../src/dataplane/tunnel/packet_batch.ts";
import { encodeCapsule } from "../../../src/wire/capsule/capsule.ts";
import {
  ADDRESS_ASSIGN,
  ADDRESS_REQUEST,
  type AssignedAddress,
  encodeAddressAssign,
  encodeAddressRequest,
  encodeRouteAdvertisement,
  type IpRoute,
  MAX_CONNECT_IP_CAPSULE,
  ROUTE_ADVERTISEMENT,
} from "../../../src/wire/capsule/connect_ip.ts";
import { IP_PACKET } from "../../../src/wire/capsule/zgate.ts";
import { H3_DATAGRAM_ERROR, H3_MESSAGE_ERROR } from "../../../src/wire/h3/codes.ts";
import { DATAGRAM_CAPSULE } from "../../../src/wire/http_datagram.ts";
import { encodeVarint } from "../../../src/wire/varint.ts";
import { pattern, TestServer } from "../../io/support.ts";
import { channelPair, readAll } from "../../support/channel_pair.ts";
import { eventually } from "../../support/eventually.ts";
import {
  makeSide,
  numbered,
  sendPacket,
  sendWhenWritable,
  type Side,
  tunnel,
  turn,
  watch,
  Wire,
} from "./connect_ip_ends.ts";

const ADDRESS: AssignedAddress = { requestId: 1, address: parseIp("10.100.0.2")!, prefixLength: 32 };
const ADDRESS6: AssignedAddress = { requestId: 2, address: parseIp("fd00::2")!, prefixLength: 128 };
const ROUTES: IpRoute[] = ["10.0.0.0/8", "fd00::/64"].map((text) => (
  { range: prefixRange(parsePrefix(text) as IpPrefix), protocol: 0 }
));

Deno.test("ConnectIp sends packets as datagrams of context 0 and takes them, both ways [RFC9484-6]", () => {
  const { near, far, wires } = tunnel();
  for (const [from, to, wire] of [[near, far, wires[0]], [far, near, wires[1]]] as const) {
    assert.equal(sendPacket(from.end, pattern(100)), true);
    assert.equal(toHex(wire.sent[0]!), "00" + toHex(pattern(100)));
    assert.deepEqual(to.packets, [toHex(pattern(100))]);
  }
});

Deno.test("ConnectIp overwrites nothing but the headroom of a packet", async () => {
  for (const maxSize of [1400, 0]) {
    const { near } = tunnel({ maxSize });
    const buffer = new Uint8Array(400).fill(0xaa);
    buffer.set(pattern(100), 200);
    assert.equal(near.end.send(buffer, 200, 300), true);
    assert.throws(() => near.end.send(buffer, 8, 10), RangeError);
    await turn();
    assert.deepEqual(buffer.subarray(200, 300), pattern(100));
    const outside = [...buffer.subarray(0, 200 - PACKET_HEADROOM), ...buffer.subarray(300)];
    assert.ok(outside.every((byte) => byte === 0xaa));
  }
});

Deno.test("ConnectIp sends a packet too large for a datagram as a capsule [RFC9297-3.5]", async () => {
  const { near, far, wires, streams } = tunnel({ maxSize: 1200, isRunning: false });
  // The context takes one byte of a datagram.
  assert.equal(sendPacket(near.end, pattern(1199)), true);
  assert.equal(sendPacket(near.end, pattern(1200)), true);
  assert.equal(wires[0].sent.length, 1);
  const expected = encodeCapsule(DATAGRAM_CAPSULE, concat([Uint8Array.of(0), pattern(1200)]));
  assert.equal(toHex((await streams[1].read())!), toHex(expected));
  assert.deepEqual(far.packets, [toHex(pattern(1199))]);
});

Deno.test("ConnectIp sends and takes everything on the stream where there are no datagrams", async () => {
  const { near, far } = tunnel({ maxSize: 0 });
  const packets = [1, 60, 63, 64, 1280, 16_381, 65_535].map(pattern);
  for (const packet of packets) assert.equal(sendPacket(near.end, packet), true, `${packet.length}`);
  await eventually(() => far.packets.length === packets.length);
  assert.deepEqual(far.packets, packets.map(toHex));
});

Deno.test("ConnectIp writes the packets of one turn at once", async () => {
  const { near, streams } = tunnel({ maxSize: 0, isRunning: false });
  for (let i = 0; i < 10; i++) sendPacket(near.end, pattern(100));
  assert.equal((await streams[1].read())!.length, 10 * (1 + 2 + 1 + 100));
});

Deno.test("ConnectIp drops packets that the stream does not take, and says when it takes more", async () => {
  const { near, streams } = tunnel({ maxSize: 0, isRunning: false, capacity: 1 });
  let sent = 0;
  const fill = () => {
    while (sendPacket(near.end, numbered(sent))) sent++;
  };
  fill();
  // What waits while nothing is written is bounded, to the byte.
  const size = 1 + 2 + 1 + 1000;
  assert.equal(sent, Math.floor(MAX_WAITING_BYTES / size));
  // Waiting, it writes the first buffer and fills the second, but never a third.
  await near.end.writable();
  fill();
  assert.equal(sent, 2 * Math.floor(MAX_WAITING_BYTES / size));
  const writable = watch(near.end.writable());
  assert.equal(await writable.isDone(), false);
  near.end.close().catch(() => {});
  assert.equal(await writable.isDone(), true);
  const got = await readAll(streams[1]);
  // The close dropped what waited, nothing of what was under way.
  assert.equal(got.length, Math.floor(MAX_WAITING_BYTES / size) * size);
});

Deno.test("ConnectIp keeps packets whole and in order under back-pressure of the stream", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 3000 }), { minLength: 1, maxLength: 120 }),
      fc.integer({ min: 1, max: 5000 }),
      async (sizes, readSize) => {
        const { near, far } = tunnel({ maxSize: 0, capacity: 500, readSize: () => readSize });
        const sent: string[] = [];
        for (const size of sizes) {
          const packet = pattern(size);
          await sendWhenWritable(near.end, packet);
          sent.push(toHex(packet));
        }
        await eventually(() => far.packets.length === sent.length, { interval: 0 });
        assert.deepEqual(far.packets, sent);
      },
    ),
    { numRuns: 25 },
  );
});

Deno.test("ConnectIp waits for its datagrams where it sends them, for the stream where that is full", async () => {
  const { near, wires } = tunnel({ maxSize: 1400, isRunning: false, capacity: 1 });
  wires[0].isFull = true;
  assert.equal(sendPacket(near.end, pattern(100)), false);
  const datagrams = watch(near.end.writable());
  assert.equal(await datagrams.isDone(), false);
  wires[0].makeRoom();
  assert.equal(await datagrams.isDone(), true);
  assert.equal(await watch(near.end.writable()).isDone(), true);
  while (sendPacket(near.end, pattern(2000)));
  await near.end.writable();
  while (sendPacket(near.end, pattern(2000)));
  assert.equal(await watch(near.end.writable()).isDone(), false);
  // Datagrams go on beside a stream that is stuck.
  assert.equal(sendPacket(near.end, pattern(100)), true);
});

Deno.test("ConnectIp carries lists both ways, each instead of the one before, ahead of packets", async () => {
  const { near, far } = tunnel({ maxSize: 0 });
  assert.equal(sendPacket(near.end, pattern(10)), true);
  await near.end.sendRequest([{ ...ADDRESS, requestId: 7 }]);
  await far.end.sendAssign([{ ...ADDRESS, requestId: 7 }, ADDRESS6]);
  await far.end.sendRoutes(ROUTES);
  await far.end.sendAssign([]);
  await far.end.sendRoutes([]);
  await eventually(() => near.heard.length === 4 && far.packets.length === 1);
  assert.deepEqual(far.heard, [["request", [{ ...ADDRESS, requestId: 7 }]]]);
  assert.deepEqual(near.heard, [
    ["assign", [{ ...ADDRESS, requestId: 7 }, ADDRESS6]],
    ["routes", ROUTES],
    ["assign", []],
    ["routes", []],
  ]);
});

Deno.test("ConnectIp writes lists while packets are in flight, whole ones of the greatest size", async () => {
  const { near, far } = tunnel({ maxSize: 0, capacity: 1000 });
  const routes: IpRoute[] = Array.from({ length: 4096 }, (_, i) => {
    const first = (0xfd00n << 112n) | BigInt(4 * i);
    return { range: { version: 6, first, last: first + 1n }, protocol: 0 };
  });
  let sent = 0;
  const lists: Promise<void>[] = [];
  for (let i = 0; i < 200; i++) {
    if (sendPacket(near.end, numbered(i))) sent++;
    if (i % 50 === 0) lists.push(near.end.sendRoutes(routes));
  }
  await Promise.all(lists);
  await eventually(() => far.packets.length === sent);
  assert.equal(far.heard.length, 4);
  for (const [, list] of far.heard) assert.deepEqual(list, routes);
  far.packets.forEach((packet, i) => assert.equal(packet, toHex(numbered(i))));
});

Deno.test("ConnectIp drops datagrams of other contexts in silence [RFC9484-6]", async () => {
  const { near, wires, streams } = tunnel();
  for (const context of [1, 2, 63, 64, 2 ** 20, 2 ** 40]) {
    const datagram = concat([encodeVarint(context), pattern(20)]);
    wires[0].deliver(datagram);
    await streams[1].write(encodeCapsule(DATAGRAM_CAPSULE, datagram));
  }
  assert.deepEqual(near.packets, []);
  // Zero may be written in more bytes than it takes.
  for (const zero of ["4000", "80000000", "c000000000000000"]) {
    const datagram = concat([fromHex(zero), pattern(20)]);
    wires[0].deliver(datagram);
    await streams[1].write(encodeCapsule(DATAGRAM_CAPSULE, datagram));
  }
  await eventually(() => near.packets.length === 6);
  assert.deepEqual(near.packets, Array(6).fill(toHex(pattern(20))));
});

Deno.test("ConnectIp drops datagrams cut inside their context, and goes on", () => {
  const { near, wires } = tunnel();
  for (const hex of ["", "40", "80", "800000", "c0", "c0000000000000"]) {
    wires[0].deliver(fromHex(hex));
  }
  wires[0].deliver(fromHex("00"));
  // An empty packet is its owner's to judge.
  assert.deepEqual(near.packets, [""]);
});

Deno.test("ConnectIp skips capsules it does not know, also the dialect's packets [RFC9297-3.2]", async () => {
  const { near, streams } = tunnel();
  for (const type of [4, 0x29, IP_PACKET, 2 ** 40]) await streams[1].write(encodeCapsule(type, pattern(300)));
  await streams[1].write(encodeAddressAssign([ADDRESS]));
  await eventually(() => near.heard.length === 1);
  assert.deepEqual(near.packets, []);
});

Deno.test("ConnectIp drops a packet longer than any IP packet", async () => {
  const { near, streams } = tunnel();
  await streams[1].write(encodeCapsule(DATAGRAM_CAPSULE, new Uint8Array(65_544)));
  await streams[1].write(encodeCapsule(DATAGRAM_CAPSULE, new Uint8Array(65_536)));
  await eventually(() => near.packets.length === 1);
  assert.equal(near.packets[0]!.length, 2 * 65_535);
});

const REFUSED: readonly [name: string, bytes: Uint8Array, wireCode: number][] = [
  ["DATAGRAM cut inside its context", encodeCapsule(DATAGRAM_CAPSULE, Uint8Array.of(0x40)), H3_MESSAGE_ERROR],
  ["DATAGRAM without context", encodeCapsule(DATAGRAM_CAPSULE, new Uint8Array(0)), H3_MESSAGE_ERROR],
  [
    "list longer than its limit",
    concat([
      Uint8Array.of(ADDRESS_ASSIGN),
      encodeVarint(MAX_CONNECT_IP_CAPSULE + 1),
    ]),
    H3_DATAGRAM_ERROR,
  ],
  ["malformed assignment", encodeCapsule(ADDRESS_ASSIGN, Uint8Array.of(1, 5)), H3_MESSAGE_ERROR],
  ["malformed request", encodeCapsule(ADDRESS_REQUEST, new Uint8Array(0)), H3_MESSAGE_ERROR],
  ["malformed route", encodeCapsule(ROUTE_ADVERTISEMENT, Uint8Array.of(4, 1)), H3_MESSAGE_ERROR],
];

for (const [name, bytes, wireCode] of REFUSED) {
  Deno.test(`ConnectIp resets the stream at a ${name} [RFC9297-3.3]`, async () => {
    // Without callbacks: what nobody asks for is checked all the same.
    const [body, peer] = channelPair();
    const end = new ConnectIp({ body, datagrams: new Wire(0), dialect: "rfc9484", onPacket: () => {} });
    const running = end.run();
    await peer.write(bytes);
    await assert.rejects(running, { code: "ERR_PROTOCOL", scope: "stream", wireCode });
    assert.ok(body.isAborted);
    assert.equal(sendPacket(end, pattern(10)), false);
    await end.writable();
    await assert.rejects(end.sendAssign([]), ProtocolError);
  });
}

Deno.test("ConnectIp resets a stream that ended inside a capsule, at every byte [RFC9297-3.3]", async () => {
  const bytes = encodeAddressAssign([ADDRESS, ADDRESS6]);
  for (let cut = 1; cut < bytes.length; cut++) {
    const { near, streams } = tunnel();
    await streams[1].write(bytes.subarray(0, cut));
    await streams[1].closeWrite();
    await assert.rejects(near.running, { code: "ERR_PROTOCOL", wireCode: H3_MESSAGE_ERROR }, `${cut}`);
    assert.deepEqual(near.heard, []);
  }
});

Deno.test("ConnectIp ends in order: lists leave, packets are dropped, both ends resolve", async () => {
  const { near, far, wires } = tunnel({ maxSize: 0 });
  const assigned = near.end.sendAssign([ADDRESS]);
  assert.equal(sendPacket(near.end, pattern(10)), true);
  await Promise.all([near.end.close(), assigned]);
  await Promise.all([near.running, far.running]);
  assert.deepEqual(far.heard, [["assign", [ADDRESS]]]);
  assert.deepEqual(far.packets, []);
  for (const { end, packets } of [near, far]) {
    assert.equal(sendPacket(end, pattern(10)), false);
    await end.writable();
    await assert.rejects(end.sendAssign([ADDRESS]), TypeError);
    for (const wire of wires) wire.deliver(Uint8Array.of(0, 1));
    assert.deepEqual(packets, []);
    await end.close();
  }
});

Deno.test("ConnectIp takes no packet once its end was asked for", async () => {
  const { near, streams, wires } = tunnel({ capacity: 10 });
  void near.end.close();
  wires[0].deliver(Uint8Array.of(0, 1));
  await streams[1].write(encodeCapsule(DATAGRAM_CAPSULE, Uint8Array.of(0, 1)));
  await streams[1].closeWrite();
  await near.running;
  assert.deepEqual(near.packets, []);
});

Deno.test("ConnectIp ends with a stream that was reset by the peer, and wakes who waits", async () => {
  const { near, streams } = tunnel({ maxSize: 0, capacity: 1 });
  const stuck = near.end.sendRoutes(ROUTES).then(() => near.end.sendRoutes(ROUTES));
  const failed = assert.rejects(stuck, { code: "ERR_CHANNEL_RESET" });
  while (sendPacket(near.end, pattern(1000)));
  const writable = near.end.writable();
  streams[1].abort();
  await assert.rejects(near.running, { code: "ERR_CHANNEL_RESET" });
  await writable;
  await failed;
  assert.equal(sendPacket(near.end, pattern(10)), false);
});

Deno.test("ConnectIp resets a stream whose peer does not read any more", async () => {
  const [body, peer] = channelPair();
  const deaf: ByteChannel = {
    read: () => body.read(),
    write: () => Promise.reject(new Error("stopped")),
    closeWrite: () => body.closeWrite(),
    abort: (reason) => body.abort(reason),
  };
  const options = { datagrams: new Wire(0), dialect: "rfc9484", onPacket: () => {} } as const;
  const end = new ConnectIp({ body: deaf, ...options });
  const running = assert.rejects(end.run());
  await assert.rejects(end.sendAssign([ADDRESS]), /stopped/);
  await running;
  assert.ok(body.isAborted);
  await assert.rejects(peer.read());
});

Deno.test("ConnectIp resets the stream of a peer that asks for addresses and reads no answer", async () => {
  const [body, peer] = channelPair({ capacity: 1 });
  const answers: Promise<unknown>[] = [];
  const end: ConnectIp = new ConnectIp({
    body,
    datagrams: new Wire(0),
    dialect: "rfc9484",
    onPacket: () => {},
    onRequest: (list) => void answers.push(end.sendAssign(list).catch((error) => error)),
  });
  const running = assert.rejects(end.run(), { code: "ERR_CHANNEL_RESET" });
  const request = encodeAddressRequest([ADDRESS]);
  const asking = (async () => {
    for (;;) await peer.write(request);
  })();
  await assert.rejects(asking, { code: "ERR_CHANNEL_RESET" });
  await running;
  // One more was being answered when the last was refused.
  assert.ok(answers.length <= MAX_WAITING_CAPSULES + 2, `${answers.length}`);
  for (const outcome of await Promise.all(answers)) assert.equal(Object(outcome).code, "ERR_CHANNEL_RESET");
});

Deno.test("ConnectIp can be ended at once", async () => {
  const { near, far, wires } = tunnel();
  near.end.abort();
  near.end.abort();
  await assert.rejects(near.running, { code: "ERR_CHANNEL_RESET" });
  await assert.rejects(far.running, { code: "ERR_CHANNEL_RESET" });
  wires[0].deliver(Uint8Array.of(0, 1));
  assert.deepEqual(near.packets, []);
});

Deno.test("ConnectIp has the MTU of the path now, and at least IPv6's [RFC8200-5]", () => {
  const { near, wires } = tunnel();
  for (const [maxSize, mtu] of [[0, 1280], [1161, 1280], [1281, 1280], [1282, 1281], [1413, 1412]] as const) {
    wires[0].maxSize = maxSize;
    assert.equal(near.end.mtu, mtu, `${maxSize}`);
  }
});

Deno.test("ConnectIp reads capsules however they are cut", async () => {
  const { near, far } = tunnel({ maxSize: 0, readSize: () => 1 });
  sendPacket(far.end, pattern(70));
  await far.end.sendAssign([ADDRESS, ADDRESS6]);
  await far.end.sendRoutes(ROUTES);
  await far.end.close();
  await near.running;
  assert.deepEqual(near.heard, [["assign", [ADDRESS, ADDRESS6]], ["routes", ROUTES]]);
  assert.equal(near.packets.length, 1);
});

Deno.test("ConnectIp of the dialect has packets and counted lists in capsules of its own", async () => {
  const { near, wires, streams } = tunnel({ dialect: "zgate", isRunning: false });
  assert.equal(near.end.mtu, 1280);
  sendPacket(near.end, Uint8Array.of(0x45, 1, 2));
  assert.equal(toHex((await streams[1].read())!), "404003" + "450102");
  await near.end.sendAssign([ADDRESS]);
  assert.equal(toHex((await streams[1].read())!), "0108" + "01" + "01040a64000220");
  assert.deepEqual(wires[0].sent, []);
});

Deno.test("ConnectIp of the dialect takes what it sends, and datagrams too", async () => {
  const { near, far, wires } = tunnel({ dialect: "zgate" });
  for (const size of [20, 1500, 65_535]) sendPacket(near.end, pattern(size));
  await near.end.sendAssign([ADDRESS, ADDRESS6]);
  await near.end.sendRoutes(ROUTES);
  wires[1].deliver(Uint8Array.of(0, 7));
  await eventually(() => far.packets.length === 4 && far.heard.length === 2);
  assert.deepEqual(far.packets.map((packet) => packet.length / 2), [20, 1500, 65_535, 1]);
  assert.deepEqual(far.heard, [["assign", [ADDRESS, ADDRESS6]], ["routes", ROUTES]]);
});

Deno.test("ConnectIp that expects an assignment first takes nothing else for one, but skips what it does not know", async () => {
  const others = [
    encodeCapsule(IP_PACKET, Uint8Array.of(0x45)),
    encodeCapsule(DATAGRAM_CAPSULE, Uint8Array.of(0, 0x45)),
    encodeAddressRequest([ADDRESS6]),
    encodeRouteAdvertisement(ROUTES),
  ];
  for (const capsule of others) {
    const { near, streams } = tunnel({ dialect: "zgate", expectsAssign: true });
    await streams[1].write(capsule);
    await assert.rejects(near.running, { wireCode: H3_MESSAGE_ERROR, message: /no ADDRESS_ASSIGN/ });
    assert.deepEqual([near.packets, near.heard], [[], []]);
  }
  const { near, far, streams } = tunnel({ dialect: "zgate", expectsAssign: true });
  await streams[1].write(encodeCapsule(0x4141, Uint8Array.of(1, 2, 3)));
  await far.end.sendAssign([ADDRESS]);
  sendPacket(far.end, Uint8Array.of(0x45));
  await far.end.sendRoutes(ROUTES);
  await eventually(() => near.packets.length === 1 && near.heard.length === 2);
});

Deno.test("ConnectIp of the dialect resets the stream at a list without its count", async () => {
  const { near, streams } = tunnel({ dialect: "zgate" });
  await streams[1].write(encodeAddressAssign([ADDRESS6]));
  await assert.rejects(near.running, { code: "ERR_PROTOCOL", wireCode: H3_MESSAGE_ERROR });
});

for (const carrier of ["quic", "tls"] as const) {
  Deno.test(`ConnectIp crosses a real ${carrier} connection`, async () => {
    const far = Promise.withResolvers<Side>();
    await using server = await TestServer[carrier](async (request) => {
      request.connection.setAuthenticated();
      const body = await request.respond({ status: 200 });
      const end = makeSide({ body, datagrams: request.datagrams, dialect: "rfc9484" });
      far.resolve(end);
      await end.running;
    });
    const client = carrier === "quic" ? await server.dial() : await server.dialTls();
    const head = { method: "CONNECT", protocol: "connect-ip", authority: "a", path: "/" };
    const { body, datagrams } = await client.request(head);
    const near = makeSide({ body, datagrams, dialect: "rfc9484" });
    const peer = await far.promise;
    await peer.end.sendAssign([ADDRESS, ADDRESS6]);
    await peer.end.sendRoutes(ROUTES);
    await eventually(() => near.heard.length === 2);
    for (const [from, to] of [[near, peer], [peer, near]] as const) {
      const sizes = [20, 1000, 1200, 1280, 4000, 65_535];
      for (const size of sizes) await sendWhenWritable(from.end, pattern(size));
      await eventually(() => to.packets.length === sizes.length);
      // Those in datagrams overtake those on the stream.
      assert.deepEqual(new Set(to.packets), new Set(sizes.map((size) => toHex(pattern(size)))));
    }
    await near.end.close();
    await Promise.all([near.running, peer.running]);
  });
}
