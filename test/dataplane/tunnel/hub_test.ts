import assert from "node:assert/strict";
import {
  ALICE,
  ALICE6,
  BOB,
  BOB6,
  cidrRule,
  GATEWAY,
  HubGround,
  identityOf,
  routes,
  SERVER,
  SERVER6,
  STRANGER,
  wordRule,
} from "./hub_ground.ts";
import { settled } from "./fakes.ts";
import { echo, facts, ICMP, icmpError, ICMPV6, packet, tcp, UDP, udp } from "./packets.ts";

const EVERYWHERE = [cidrRule(["0.0.0.0/0", "::/0"])];

Deno.test("an allowed packet goes to the device, its answer back to the peer, both as they are", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    for (const [src, dst] of [[ALICE, SERVER], [ALICE6, SERVER6]] as const) {
      const there = tcp({ src, dst, flags: 2 });
      const back = tcp({ src: dst, dst: src, srcPort: 443, dstPort: 4_000, flags: 0x12 });
      await ground.send(alice, there);
      assert.deepEqual(ground.device.written.pop(), there);
      await ground.arrive(back);
      assert.deepEqual(alice.link.sent.pop(), back);
    }
  });
  assert.equal(alice.session.counters.packetsIn, 2);
  assert.equal(alice.session.counters.packetsOut, 2);
  assert.deepEqual(alice.session.counters.drops(), {});
  assert.equal(alice.session.lastSeen, ground.now);
});

Deno.test("packets of one burst are written to the device at once, and only when the burst ends", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  for (let i = 0; i < 40; i++) alice.session.receive(udp({ src: ALICE, dst: SERVER, srcPort: 1_000 + i }));
  assert.deepEqual(ground.device.writes, []);
  await ground.turns.run();
  assert.deepEqual(ground.device.writes, [40]);
});

Deno.test("a burst larger than a batch loses and reorders nothing", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const sent = Array.from(
    { length: 700 },
    (_, i) => udp({ src: ALICE, dst: SERVER, data: new Uint8Array(1_200).fill(i) }),
  );
  await ground.send(alice, ...sent);
  assert.deepEqual(ground.device.written, sent);
});

Deno.test("the first packet of each flow is told, allowed or not, later ones are counted", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [cidrRule([`${SERVER}/32`])] });
  const good = udp({ src: ALICE, dst: SERVER });
  const bad = udp({ src: ALICE, dst: STRANGER });
  await ground.send(alice, good, good, bad, bad, good);
  assert.deepEqual(ground.decisions.map(({ who, action, flow }) => [who, action, flow.destination]), [
    ["alice", "allow", SERVER],
    ["alice", "drop", STRANGER],
  ]);
  assert.equal(ground.decisions[0]!.flow.packetsOut, 3);
  assert.deepEqual(alice.session.counters.drops(), { denied: 2 });
});

Deno.test("[RFC9484-7.2.1] what policy rejects is answered from the gateway, what it drops is not", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", {
    rules: [
      cidrRule([`${SERVER}/32`], { action: "reject" }),
      cidrRule([`${STRANGER}/32`], { action: "drop" }),
    ],
  });
  await ground.send(alice, udp({ src: ALICE, dst: SERVER }), udp({ src: ALICE, dst: STRANGER }));
  assert.equal(alice.link.sent.length, 1);
  const answer = facts(alice.link.sent[0]!);
  assert.deepEqual([answer.src, answer.dst, answer.protocol, answer.type, answer.code], [
    GATEWAY,
    ALICE,
    ICMP,
    3,
    13,
  ]);
  assert.deepEqual(ground.device.written, []);
});

Deno.test("[RFC9484-4.6] packets outside target and protocol of the request are dropped and answered", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE, scope: routes([`${SERVER}/32`], UDP) });
  const passes = udp({ src: ALICE, dst: SERVER });
  await ground.send(
    alice,
    tcp({ src: ALICE, dst: SERVER }),
    udp({ src: ALICE, dst: STRANGER }),
    udp({ src: ALICE6, dst: SERVER6 }),
    passes,
  );
  assert.deepEqual(ground.device.written, [passes]);
  assert.deepEqual(alice.session.counters.drops(), { out_of_scope: 3 });
  assert.deepEqual(alice.link.sent.map((sent) => facts(sent).type), [3, 3, 1]);
});

Deno.test("an ICMP error about a peer's packet reaches it from whatever router it comes", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    const probe = udp({ src: ALICE, dst: SERVER, ttl: 2 });
    await ground.send(alice, probe);
    const error = icmpError({ src: STRANGER, dst: ALICE, quoted: probe, type: 11, code: 0 });
    await ground.arrive(error);
    assert.deepEqual(alice.link.sent, [error]);
  });
});

Deno.test("a peer may tell a host outside that its answer found no port", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [cidrRule([`${SERVER}/32`], { protocols: [UDP] })] });
  await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
  const late = udp({ src: SERVER, dst: ALICE, srcPort: 9_000, dstPort: 4_000 });
  const error = icmpError({ src: ALICE, dst: SERVER, quoted: late });
  await ground.send(alice, error);
  assert.deepEqual(ground.device.written.pop(), error);
});

Deno.test("a packet too large for the link comes back as Packet Too Big, in the name of the peer", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  alice.link.mtu = 1_300;
  await ground.running(async () => {
    await ground.send(alice, udp({ src: ALICE, dst: SERVER }), udp({ src: ALICE6, dst: SERVER6 }));
    ground.device.written.length = 0;
    const back = { srcPort: 9_000, dstPort: 4_000, data: new Uint8Array(1_273) };
    await ground.arrive(
      udp({ src: SERVER, dst: ALICE, ...back }),
      udp({ src: SERVER6, dst: ALICE6, ...back }),
    );
    const [v4, v6] = ground.device.written.map(facts);
    assert.deepEqual([v4?.src, v4?.dst, v4?.type, v4?.code], [ALICE, SERVER, 3, 4]);
    assert.deepEqual([v6?.type, v6?.code], [2, 0]);
    for (const [message, at] of [[ground.device.written[0]!, 26], [ground.device.written[1]!, 46]] as const) {
      assert.equal(new DataView(message.buffer).getUint16(at), 1_300);
    }
    assert.deepEqual(alice.link.sent, []);
    assert.deepEqual(alice.session.counters.drops(), { too_large: 2 });
  });
});

Deno.test("a packet that may be fragmented goes to the link whatever its size", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  alice.link.mtu = 1_280;
  await ground.running(async () => {
    await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
    const back = { srcPort: 9_000, dstPort: 4_000, data: new Uint8Array(1_400), dontFragment: false };
    await ground.arrive(udp({ src: SERVER, dst: ALICE, ...back }));
    assert.equal(alice.link.sent.length, 1);
  });
});

Deno.test("[RFC9484-7.1] between peers a hop is taken off, and the checksum stays right", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [wordRule("identity", ["agent/bob"])] });
  const bob = ground.join("bob");
  for (const [src, dst] of [[ALICE, BOB], [ALICE6, BOB6]] as const) {
    const there = udp({ src, dst, ttl: 64 });
    await ground.send(alice, there);
    const got = bob.link.sent.pop()!;
    assert.deepEqual([facts(got).ttl, facts(got).isSound, facts(got).length], [63, true, there.length]);
    await ground.send(bob, udp({ src: dst, dst: src, srcPort: 9_000, dstPort: 4_000 }));
    assert.equal(facts(alice.link.sent.pop()!).ttl, 63);
  }
  assert.deepEqual(ground.device.written, []);
  assert.deepEqual(ground.decisions.map(({ who, action }) => [who, action]), [["alice", "allow"], [
    "alice",
    "allow",
  ]]);
});

Deno.test("between peers a packet too large for the second is answered to the first", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [wordRule("identity", ["agent/bob"])] });
  const bob = ground.join("bob");
  bob.link.mtu = 1_300;
  await ground.send(alice, udp({ src: ALICE, dst: BOB, data: new Uint8Array(1_280) }));
  assert.deepEqual(bob.link.sent, []);
  const answer = facts(alice.link.sent[0]!);
  assert.deepEqual([answer.src, answer.type, answer.code], [GATEWAY, 3, 4]);
});

Deno.test("an error of a peer about another's packet reaches the other", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [wordRule("identity", ["agent/bob"])] });
  const bob = ground.join("bob");
  await ground.send(alice, udp({ src: ALICE, dst: BOB }));
  await ground.send(bob, icmpError({ src: BOB, dst: ALICE, quoted: bob.link.sent[0]! }));
  assert.equal(facts(alice.link.sent[0]!).code, 3);
  // And the other way round: alice has no use for what bob answered.
  const late = udp({ src: BOB, dst: ALICE, srcPort: 9_000, dstPort: 4_000 });
  await ground.send(bob, late);
  await ground.send(alice, icmpError({ src: ALICE, dst: BOB, quoted: late }));
  assert.equal(facts(bob.link.sent.at(-1)!).code, 3);
});

Deno.test("a peer whose address nobody holds cannot be reached even where policy allows it", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [cidrRule(["10.100.0.99/32"])] });
  await ground.send(alice, udp({ src: ALICE, dst: "10.100.0.99" }));
  assert.deepEqual(ground.device.written, []);
  assert.equal(facts(alice.link.sent[0]!).type, 3);
  assert.deepEqual(alice.session.counters.drops(), { no_session: 1 });
});

Deno.test("a DNS answer opens its addresses before the peer gets it", async () => {
  const ground = new HubGround();
  const resolver = "192.0.2.53";
  const alice = ground.join("alice", {
    rules: [cidrRule([`${resolver}/32`]), wordRule("fqdn", ["*.example.com"])],
  });
  await ground.running(async () => {
    await ground.send(alice, tcp({ src: ALICE, dst: SERVER }));
    assert.deepEqual(ground.device.written, []);
    await ground.send(alice, udp({ src: ALICE, dst: resolver, srcPort: 5_353, dstPort: 53 }));
    ground.device.written.length = 0;
    const answer = dnsAnswer("www.example.com", [192, 0, 2, 80]);
    await ground.arrive(udp({ src: resolver, dst: ALICE, srcPort: 53, dstPort: 5_353, data: answer }));
    assert.deepEqual(ground.learned, ["alice"]);
    // The routes to it arrive before the answer.
    assert.deepEqual([alice.link.sent.length, alice.link.inOrder], [1, 1]);
    await ground.send(alice, tcp({ src: ALICE, dst: SERVER }));
    assert.equal(ground.device.written.length, 1);
    const other = dnsAnswer("www.example.org", [192, 0, 2, 80]);
    await ground.arrive(udp({ src: resolver, dst: ALICE, srcPort: 53, dstPort: 5_353, data: other }));
    assert.deepEqual([alice.link.sent.length, alice.link.inOrder], [2, 1]);
  });
});

Deno.test("idle flows are told with their last counters", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.send(alice, udp({ src: ALICE, dst: SERVER }), udp({ src: ALICE, dst: SERVER }));
  ground.now += 200_000;
  ground.hub.tick();
  assert.deepEqual(ground.closed.map(({ identity, flow }) => [identity, flow.packetsOut]), [
    [identityOf("alice").uri, 2],
  ]);
});

Deno.test("a peer that comes back finds its flows as they were", async () => {
  const ground = new HubGround();
  const first = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    await ground.send(first, tcp({ src: ALICE, dst: SERVER, flags: 2 }));
    first.session.detach();
    const second = ground.join("alice", { rules: EVERYWHERE });
    await ground.arrive(tcp({ src: SERVER, dst: ALICE, srcPort: 443, dstPort: 4_000, flags: 0x12 }));
    assert.equal(second.link.sent.length, 1);
    assert.equal(ground.decisions.length, 1);
    second.session.detach();
    ground.now += 301_000;
    ground.hub.tick();
    ground.hub.tick();
    assert.deepEqual([ground.engine.size, ground.closed.length], [0, 1], "And loses them when it stays away");
  });
});

Deno.test("the loop ends when the device is closed, and tells when it fails", async () => {
  const ground = new HubGround();
  const run = ground.hub.run();
  ground.hub.close();
  ground.hub.close();
  await run;
  const failing = new HubGround();
  failing.device.fault = new Error("The device is gone");
  await assert.rejects(failing.hub.run(), /is gone/);
});

Deno.test("the event loop gets its turn while the device never runs empty", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
  const back = udp({
    src: SERVER,
    dst: ALICE,
    srcPort: 9_000,
    dstPort: 4_000,
    data: new Uint8Array(1_200),
  });
  ground.device.arrive(...new Array(2_000).fill(back));
  const run = ground.hub.run();
  await settled();
  assert.ok(ground.device.waiting > 0, "The loop emptied the device in one go");
  assert.equal(ground.turns.waiting, 1);
  await ground.turns.run();
  assert.equal(alice.link.sent.length, 2_000);
  ground.hub.close();
  await run;
});

Deno.test("attach() takes only addresses that are a peer's to have", () => {
  const ground = new HubGround();
  for (const address of [GATEWAY, "10.100.1.5", SERVER]) {
    assert.throws(() => ground.join("alice", { addresses: [address] }), /no address of a pool/);
  }
  ground.join("bob");
  assert.throws(() => ground.join("alice", { addresses: [BOB] }), TypeError);
  assert.equal(ground.hub.sessionOf(identityOf("alice").uri), undefined);
  // Each refused attempt has let go of its client: only then can it be forgotten.
  const before = ground.engine.client({ identity: identityOf("alice").uri, rules: undefined });
  ground.engine.release(before, ground.now);
  ground.now += 301_000;
  ground.hub.tick();
  assert.notEqual(ground.engine.client({ identity: identityOf("alice").uri, rules: undefined }), before);
});

Deno.test("pings of two peers at one time find their ways back", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const bob = ground.join("bob", { rules: EVERYWHERE });
  await ground.running(async () => {
    for (let id = 1; id <= 4; id++) {
      await ground.send(alice, echo({ src: ALICE, dst: SERVER, id }));
      await ground.send(bob, echo({ src: BOB, dst: SERVER, id }));
      await ground.arrive(
        echo({ src: SERVER, dst: BOB, id, reply: true }),
        echo({ src: SERVER, dst: ALICE, id, reply: true }),
      );
    }
    assert.deepEqual(alice.link.sent.map((sent) => facts(sent).dst), new Array(4).fill(ALICE));
    assert.deepEqual(bob.link.sent.map((sent) => facts(sent).dst), new Array(4).fill(BOB));
  });
});

Deno.test("a fragmented packet passes whole, its fragments by the first's right", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const whole = udp({ src: ALICE, dst: SERVER, data: new Uint8Array(2_000) }).subarray(20);
  // The first carries the length of the whole datagram in its UDP header.
  const fragment = { src: ALICE, dst: SERVER, protocol: UDP, dontFragment: false, id: 7 };
  const first = packet({ ...fragment, payload: whole.slice(0, 1_200), moreFragments: true });
  const last = packet({ ...fragment, payload: whole.slice(1_200), fragmentOffset: 1_200 });
  await ground.send(alice, last, first, last);
  assert.deepEqual(ground.device.written, [first, last]);
});

Deno.test("later fragments of an ICMPv6 echo are no errors", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const whole = echo({ src: ALICE6, dst: SERVER6, size: 1_000 }).subarray(40);
  const fragment = (offset: number, end: number, more: number) =>
    packet({
      src: ALICE6,
      dst: SERVER6,
      protocol: 44,
      payload: Uint8Array.of(
        ICMPV6,
        0,
        offset >> 8,
        offset & 0xf8 | more,
        0,
        0,
        0,
        9,
        ...whole.subarray(offset, end),
      ),
    });
  const fragments = [fragment(0, 800, 1), fragment(800, whole.length, 0)];
  await ground.send(alice, ...fragments);
  assert.deepEqual(ground.device.written, fragments);
});

/** A DNS answer with one A record. */
function dnsAnswer(name: string, address: readonly number[]): Uint8Array {
  const labels = name.split(".").flatMap((label) => [label.length, ...new TextEncoder().encode(label)]);
  return Uint8Array.of(
    ...[0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
    ...[...labels, 0, 0, 1, 0, 1],
    ...[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address],
  );
}
