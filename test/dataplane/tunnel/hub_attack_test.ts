/** What peers try against the hub, each attack beside the honest packet that must pass. */

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  ALICE,
  ALICE6,
  assertNothingPassed,
  BOB,
  BOB6,
  CAROL,
  cidrRule,
  GATEWAY,
  GATEWAY6,
  HubGround,
  routes,
  SERVER,
  SERVER6,
  STRANGER,
  wordRule,
} from "./hub_ground.ts";
import { echo, facts, icmpError, ICMPV6, packet, tcp, UDP, udp } from "./packets.ts";

const EVERYWHERE = [cidrRule(["0.0.0.0/0", "::/0"])];
const NOTHING: readonly never[] = [];

Deno.test("[RFC9484-11] a peer sends from its own addresses only", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const bob = ground.join("bob", { rules: EVERYWHERE });
  const spoofed = [BOB, GATEWAY, STRANGER, "10.100.0.11", "0.0.0.0", "127.0.0.1", "255.255.255.255"];
  await ground.send(alice, ...spoofed.map((src) => udp({ src, dst: SERVER })));
  await ground.send(
    alice,
    ...[BOB6, GATEWAY6, "::", "::1", "fe80::1", "fd00::1:a"].map((src) => udp({ src, dst: SERVER6 })),
  );
  // The reply to a spoofed packet would go to bob; so would bob's right.
  await ground.send(alice, udp({ src: BOB, dst: ALICE }), echo({ src: BOB, dst: ALICE, reply: true }));
  assertNothingPassed(ground, alice, bob);
  assert.deepEqual(alice.session.counters.drops(), { spoofed_source: spoofed.length + 6 + 2 });
  assert.deepEqual(ground.decisions, NOTHING);
  await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
  assert.equal(ground.device.written.length, 1);
});

Deno.test("an IPv6 form of an IPv4 address is neither a source nor a destination", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const bob = ground.join("bob");
  await ground.send(
    alice,
    udp({ src: `::ffff:${ALICE}`, dst: SERVER6 }),
    udp({ src: ALICE6, dst: `::ffff:${BOB}` }),
    udp({ src: ALICE6, dst: `::ffff:${SERVER}` }),
    udp({ src: ALICE6, dst: `::${BOB}` }),
  );
  assertNothingPassed(ground, alice, bob);
});

Deno.test("a foreign destination stays shut, however often it is asked for", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [cidrRule([`${SERVER}/32`], { protocols: [UDP] })] });
  const neighbours = [
    udp({ src: ALICE, dst: "192.0.2.81" }),
    udp({ src: ALICE, dst: "192.0.2.79" }),
    tcp({ src: ALICE, dst: SERVER }),
    echo({ src: ALICE, dst: SERVER }),
    packet({ src: ALICE, dst: SERVER, protocol: 47 }),
    udp({ src: ALICE6, dst: SERVER6 }),
  ];
  for (let round = 0; round < 3; round++) await ground.send(alice, ...neighbours);
  assertNothingPassed(ground, alice);
  await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
  assert.equal(ground.device.written.length, 1);
});

Deno.test("never forwarded, whatever policy says: loopback, link-local, multicast, broadcast, unspecified", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const v4 = ["127.0.0.1", "169.254.169.254", "224.0.0.251", "239.1.2.3", "255.255.255.255", "0.0.0.0"];
  const v6 = ["::1", "fe80::1", "ff02::1", "::"];
  await ground.send(
    alice,
    ...v4.map((dst) => udp({ src: ALICE, dst })),
    ...v6.map((dst) => udp({ src: ALICE6, dst })),
  );
  assertNothingPassed(ground, alice);
});

Deno.test("a peer forges ICMP errors: about others' packets, to others, or out of nothing", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [...EVERYWHERE, wordRule("identity", ["agent/bob"])] });
  const bob = ground.join("bob");
  const mallory = ground.join("carol", { rules: [...EVERYWHERE, wordRule("identity", ["#all"])] });
  const toServer = udp({ src: ALICE, dst: SERVER });
  const toBob = udp({ src: ALICE, dst: BOB });
  await ground.send(alice, toServer, toBob);
  ground.device.written.length = 0;
  bob.link.sent.length = 0;
  await ground.send(
    mallory,
    icmpError({ src: CAROL, dst: ALICE, quoted: toServer, type: 3, code: 4 }),
    icmpError({ src: CAROL, dst: ALICE, quoted: toBob }),
    icmpError({ src: CAROL, dst: ALICE, quoted: udp({ src: ALICE, dst: CAROL }) }),
    icmpError({ src: CAROL, dst: SERVER, quoted: udp({ src: SERVER, dst: ALICE }) }),
    icmpError({ src: CAROL, dst: SERVER, quoted: udp({ src: SERVER, dst: CAROL }) }),
    icmpError({ src: CAROL, dst: STRANGER, quoted: udp({ src: SERVER, dst: CAROL }) }),
    icmpError({ src: CAROL, dst: ALICE, quoted: toBob, type: 5 }),
  );
  assertNothingPassed(ground, alice, bob, mallory);
  assert.deepEqual(mallory.session.counters.drops(), { unsolicited: 7 });
  // Alice has a flow with the server; what it sent her concerns nobody else.
  await ground.send(
    alice,
    icmpError({
      src: ALICE,
      dst: STRANGER,
      quoted: udp({ src: SERVER, dst: ALICE, srcPort: 9_000, dstPort: 4_000 }),
    }),
    packet({ src: ALICE6, dst: SERVER6, protocol: ICMPV6, payload: Uint8Array.of(137, 0, 0, 0, 0, 0, 0, 0) }),
  );
  assertNothingPassed(ground, alice, bob, mallory);
});

Deno.test("agents do not reach one another without a rule that names them", async () => {
  const broad = [
    EVERYWHERE,
    [cidrRule(["10.0.0.0/8"])],
    [cidrRule(["10.100.0.0/16"])],
    [{ ...cidrRule([]), type: "default" as const, destinations: [] as const }],
  ];
  for (const rules of broad) {
    const ground = new HubGround();
    const alice = ground.join("alice", { rules });
    const bob = ground.join("bob", { rules });
    await ground.send(
      alice,
      udp({ src: ALICE, dst: BOB }),
      tcp({ src: ALICE, dst: BOB, flags: 2 }),
      echo({ src: ALICE, dst: BOB }),
      udp({ src: ALICE, dst: "10.100.0.255" }),
      udp({ src: ALICE, dst: "10.100.0.99" }),
    );
    assertNothingPassed(ground, alice, bob);
  }
});

Deno.test("a rule lets alice reach bob, and bob only answer", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [wordRule("identity", ["agent/bob"])] });
  const bob = ground.join("bob", { rules: EVERYWHERE });
  const carol = ground.join("carol", { rules: [wordRule("identity", ["agent/alice"])] });
  await ground.send(bob, udp({ src: BOB, dst: ALICE, srcPort: 9_000, dstPort: 4_000 }));
  assertNothingPassed(ground, alice, bob);
  await ground.send(alice, udp({ src: ALICE, dst: BOB, srcPort: 4_000, dstPort: 9_000 }));
  assert.equal(bob.link.sent.length, 1);
  await ground.send(bob, udp({ src: BOB, dst: ALICE, srcPort: 9_000, dstPort: 4_001 }));
  await ground.send(bob, tcp({ src: BOB, dst: ALICE, srcPort: 9_000, dstPort: 4_000, flags: 2 }));
  await ground.send(alice, udp({ src: ALICE, dst: CAROL }));
  assert.deepEqual([alice.link.sent.length, carol.link.sent.length], [0, 0]);
  await ground.send(bob, udp({ src: BOB, dst: ALICE, srcPort: 9_000, dstPort: 4_000 }));
  assert.equal(alice.link.sent.length, 1);
});

Deno.test("a peer's limited request shuts out other peers too", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [wordRule("identity", ["#all"])] });
  const bob = ground.join("bob", { scope: routes([`${SERVER}/32`]) });
  await ground.send(alice, udp({ src: ALICE, dst: BOB }));
  assertNothingPassed(ground, alice, bob);
  assert.deepEqual(alice.session.counters.drops(), { out_of_scope: 1 });
});

Deno.test("an address that changes hands takes no right along", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [wordRule("identity", ["agent/bob"])] });
  const bob = ground.join("bob");
  const flow = udp({ src: ALICE, dst: BOB });
  await ground.send(alice, flow);
  assert.equal(bob.link.sent.length, 1);
  bob.session.detach();
  await ground.send(alice, flow);
  assert.deepEqual(alice.session.counters.drops(), { denied: 1 }, "Who is not there is nobody's to reach");
  const carol = ground.join("carol", { addresses: [BOB] });
  await ground.send(alice, flow);
  assert.deepEqual(carol.link.sent, NOTHING);
  carol.session.detach();
  await ground.send(alice, flow);
  const again = ground.join("bob");
  await ground.send(alice, flow);
  assert.equal(again.link.sent.length, 1);
});

Deno.test("the relay's gateway opens only to a rule of its own", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [...EVERYWHERE, wordRule("identity", ["#all"])] });
  const bob = ground.join("bob", { rules: [cidrRule([`${GATEWAY}/32`])] });
  await ground.send(
    alice,
    echo({ src: ALICE, dst: GATEWAY }),
    tcp({ src: ALICE, dst: GATEWAY, dstPort: 22, flags: 2 }),
    echo({ src: ALICE6, dst: GATEWAY6 }),
  );
  assertNothingPassed(ground, alice, bob);
  await ground.running(async () => {
    await ground.send(bob, echo({ src: BOB, dst: GATEWAY }));
    assert.equal(ground.device.written.length, 1);
    await ground.arrive(echo({ src: GATEWAY, dst: BOB, reply: true }), echo({ src: GATEWAY, dst: ALICE }));
    assert.deepEqual([bob.link.sent.length, alice.link.sent.length], [1, 0]);
  });
});

Deno.test("[RFC9484-7.1] TTL 0 goes nowhere, TTL 1 not from peer to peer", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [...EVERYWHERE, wordRule("identity", ["agent/bob"])] });
  const bob = ground.join("bob");
  await ground.send(alice, udp({ src: ALICE, dst: BOB, ttl: 0 }), udp({ src: ALICE, dst: SERVER, ttl: 0 }));
  assertNothingPassed(ground, alice, bob);
  await ground.send(alice, udp({ src: ALICE, dst: BOB, ttl: 1 }), udp({ src: ALICE6, dst: BOB6, ttl: 1 }));
  assert.deepEqual(bob.link.sent, NOTHING);
  assert.deepEqual(alice.link.sent.map((sent) => facts(sent).type), [11, 3]);
  assert.deepEqual(alice.session.counters.drops(), { ttl_expired: 4 });
  await ground.send(alice, udp({ src: ALICE, dst: BOB, ttl: 2 }), udp({ src: ALICE, dst: SERVER, ttl: 1 }));
  assert.equal(facts(bob.link.sent[0]!).ttl, 1);
  assert.equal(ground.device.written.length, 1, "Outwards the kernel counts the hop");
});

Deno.test("a peer without rules sends into the void", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice");
  await ground.send(alice, udp({ src: ALICE, dst: SERVER }), udp({ src: ALICE, dst: BOB }));
  assertNothingPassed(ground, alice);
});

Deno.test("malformed packets of every kind are counted and nothing else", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const good = tcp({ src: ALICE, dst: SERVER, data: new Uint8Array(20) });
  const good6 = tcp({ src: ALICE6, dst: SERVER6, data: new Uint8Array(20) });
  const malformed = [
    ...Array.from({ length: good.length }, (_, end) => good.slice(0, end)),
    ...Array.from({ length: good6.length }, (_, end) => good6.slice(0, end)),
    withTail(good),
    withTail(good6),
    changed(good, 0, 0x35),
    changed(good, 0, 0x44),
    changed(good, 0, 0x4f),
    changed(good, 8, 63),
    changed(good6, 0, 0x50),
    changed(good, 32, 0x10),
    changed(good6, 52, 0xf0),
    new Uint8Array(65_535),
    new Uint8Array(70_000).fill(0x45),
  ];
  await ground.send(alice, ...malformed);
  assertNothingPassed(ground, alice);
  assert.equal(alice.session.counters.dropped, malformed.length);
  assert.deepEqual(ground.decisions, NOTHING);
  await ground.send(alice, good, good6);
  assert.equal(ground.device.written.length, 2);
});

Deno.test("random bytes never throw and never pass in another's name", () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [...EVERYWHERE, wordRule("identity", ["#all"])] });
  ground.join("bob");
  const templates = [
    udp({ src: ALICE, dst: SERVER }),
    udp({ src: ALICE6, dst: SERVER6 }),
    echo({ src: ALICE, dst: BOB }),
    icmpError({ src: ALICE, dst: SERVER, quoted: udp({ src: SERVER, dst: ALICE }) }),
  ];
  const mutated = fc.tuple(
    fc.constantFrom(...templates),
    fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 }),
    fc.nat(100),
  ).map(([template, changes, cut]) => {
    const bytes = template.slice(0, cut > 90 ? cut - 60 : template.length);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return bytes;
  });
  const garbage = fc.oneof(fc.uint8Array({ maxLength: 200 }), mutated);
  fc.assert(
    fc.property(garbage, (bytes) => {
      alice.session.receive(new Uint8Array(bytes));
    }),
    { numRuns: 2_000 },
  );
  ground.hub.tick();
  for (const written of ground.device.written) {
    assert.ok([ALICE, facts(udp({ src: ALICE6, dst: SERVER6 })).src].includes(facts(written).src));
  }
  assert.deepEqual(ground.errors, NOTHING);
});

Deno.test("a thousand packets of garbage per source cost a few reports, and nobody else notices", async () => {
  const ground = new HubGround();
  const honest = ground.join("alice", { rules: EVERYWHERE });
  const villains = Array.from({ length: 20 }, (_, i) =>
    ground.join(`villain-${i}`, {
      rules: [cidrRule([`${SERVER}/32`])],
      addresses: [`10.100.0.${100 + i}`],
    }));
  for (let i = 0; i < 1_000; i++) {
    villains.forEach((villain, v) => {
      const src = `10.100.0.${100 + v}`;
      // A scan, a spoofer and a sender of noise.
      if (v % 3 === 0) villain.session.receive(udp({ src, dst: `198.51.100.${i % 200}`, dstPort: i }));
      else if (v % 3 === 1) villain.session.receive(udp({ src: ALICE, dst: SERVER }));
      else villain.session.receive(crypto.getRandomValues(new Uint8Array(60)));
    });
    honest.session.receive(udp({ src: ALICE, dst: SERVER, srcPort: 1 + i }));
  }
  await ground.turns.run();
  assert.equal(ground.device.written.length, 1_000);
  for (const { session } of villains) assert.equal(session.counters.dropped, 1_000);
  const perVillain = Map.groupBy(ground.decisions.filter(({ who }) => who !== "alice"), ({ who }) => who);
  for (const decisions of perVillain.values()) assert.ok(decisions.length <= 50, `${decisions.length} lines`);
  const allowed = ground.decisions.filter(({ who }) => who === "alice").length;
  assert.equal(allowed, 1_000, "What is allowed is told without exception");
  const scanner = villains[0]!.session;
  assert.equal(scanner.unauditedRefusals + perVillain.get("villain-0")!.length, 1_000);

  for (let second = 0; second < 10; second++) {
    const before = ground.reports.length;
    ground.hub.tick();
    assert.ok(ground.reports.length - before <= 4);
  }
  assert.equal(new Set(ground.reports.map(({ who }) => who)).size, 20, "Each is told of in its turn");
  assert.equal(ground.reports.length, 20, "And once");
});

Deno.test("refusals are answered only so often", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [cidrRule(["0.0.0.0/0"], { action: "reject" })] });
  for (let i = 0; i < 1_000; i++) alice.session.receive(udp({ src: ALICE, dst: SERVER, dstPort: 1 + i }));
  await ground.turns.run();
  assert.equal(alice.link.sent.length, 50);
  ground.now += 1_000;
  for (let i = 0; i < 1_000; i++) alice.session.receive(udp({ src: ALICE, dst: SERVER, dstPort: 1 + i }));
  assert.equal(alice.link.sent.length, 60);
});

Deno.test("a refusal is never answered with an error about an error", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [cidrRule(["0.0.0.0/0"], { action: "reject" })] });
  const quoted = udp({ src: SERVER, dst: ALICE });
  await ground.send(alice, icmpError({ src: ALICE, dst: SERVER, quoted }));
  assertNothingPassed(ground, alice);
});

Deno.test("a peer is detached: its packets and those for it end there", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
    ground.device.written.length = 0;
    alice.session.detach();
    alice.session.detach();
    await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
    await ground.arrive(udp({ src: SERVER, dst: ALICE, srcPort: 9_000, dstPort: 4_000 }));
  });
  assertNothingPassed(ground, alice);
  assert.deepEqual(ground.hub.counters.drops(), { no_session: 1 });
});

Deno.test("an identity is taken over: the first session is told, and neither sends nor gets any more", async () => {
  const ground = new HubGround();
  let replaced = 0;
  const first = ground.join("alice", { rules: EVERYWHERE, onReplaced: () => replaced++ });
  await ground.running(async () => {
    await ground.send(first, udp({ src: ALICE, dst: SERVER }));
    const second = ground.join("alice", { rules: EVERYWHERE });
    assert.equal(replaced, 1);
    assert.equal(first.session.attached, false);
    ground.device.written.length = 0;
    await ground.send(first, udp({ src: ALICE, dst: SERVER }));
    assert.deepEqual(ground.device.written, NOTHING);
    first.session.detach();
    await ground.arrive(udp({ src: SERVER, dst: ALICE, srcPort: 9_000, dstPort: 4_000 }));
    assert.deepEqual([first.link.sent.length, second.link.sent.length], [0, 1]);
    assert.equal(ground.hub.sessionOf(second.session.identity.uri), second.session);
    assert.equal(replaced, 1);
  });
});

Deno.test("an audit that fails stops neither the loop nor others' packets", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  ground.auditFault = new Error("The disk is full");
  await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
  assert.deepEqual(ground.device.written, NOTHING, "What cannot be audited does not pass");
  assert.equal(ground.errors.length, 1);
  ground.auditFault = undefined;
  await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
  assert.equal(ground.device.written.length, 1);
  assert.equal(ground.decisions.length, 1);
});

function withTail(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const longer = new Uint8Array(bytes.length + 1);
  longer.set(bytes);
  return longer;
}

function changed(bytes: Uint8Array, at: number, value: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes);
  copy[at] = value;
  return copy;
}
