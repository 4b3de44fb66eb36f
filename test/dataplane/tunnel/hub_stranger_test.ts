/** What strangers outside try against the hub, each attack beside the honest packet that must pass. */

import assert from "node:assert/strict";
import {
  ALICE,
  ALICE6,
  assertNothingPassed,
  BOB,
  cidrRule,
  HubGround,
  SERVER,
  SERVER6,
  STRANGER,
  wordRule,
} from "./hub_ground.ts";
import { echo, icmpError, packet, tcp, UDP, udp } from "./packets.ts";

const EVERYWHERE = [cidrRule(["0.0.0.0/0", "::/0"])];
const NOTHING: readonly never[] = [];

Deno.test("an internet host that nobody asked reaches no peer", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    await ground.arrive(
      udp({ src: SERVER, dst: ALICE }),
      tcp({ src: SERVER, dst: ALICE, flags: 2 }),
      tcp({ src: SERVER, dst: ALICE, flags: 0x12 }),
      echo({ src: SERVER, dst: ALICE }),
      echo({ src: SERVER, dst: ALICE, reply: true }),
      udp({ src: SERVER6, dst: ALICE6 }),
      packet({ src: SERVER, dst: ALICE, protocol: 47 }),
    );
  });
  assertNothingPassed(ground, alice);
  assert.deepEqual(ground.hub.counters.drops(), { unsolicited: 7 });
  assert.deepEqual(alice.session.counters.drops(), {}, "It is no fault of the peer's");
});

Deno.test("an answer is forged: every field one off", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const bob = ground.join("bob", { rules: EVERYWHERE });
  await ground.running(async () => {
    await ground.send(
      alice,
      udp({ src: ALICE, dst: SERVER, srcPort: 4_000, dstPort: 9_000 }),
      tcp({ src: ALICE, dst: SERVER, srcPort: 4_000, dstPort: 443, flags: 2 }),
      echo({ src: ALICE, dst: SERVER, id: 7 }),
    );
    ground.device.written.length = 0;
    const back = { src: SERVER, dst: ALICE, srcPort: 9_000, dstPort: 4_000 };
    await ground.arrive(
      udp({ ...back, src: STRANGER }),
      udp({ ...back, dst: BOB }),
      udp({ ...back, srcPort: 9_001 }),
      udp({ ...back, dstPort: 4_001 }),
      udp({ ...back, srcPort: 4_000, dstPort: 9_000 }),
      tcp({ ...back }),
      // A connection of the server's own on the ports of alice's.
      tcp({ ...back, srcPort: 443, flags: 2 }),
      echo({ src: SERVER, dst: ALICE, id: 8, reply: true }),
      echo({ src: SERVER, dst: ALICE, id: 7 }),
      packet({ src: SERVER, dst: ALICE, protocol: UDP, fragmentOffset: 1_200, dontFragment: false, id: 9 }),
    );
    assertNothingPassed(ground, alice, bob);
    await ground.arrive(udp(back));
    assert.equal(alice.link.sent.length, 1);
  });
});

Deno.test("an ICMP error is forged: about packets that were never sent, or by redirect and quench", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const bob = ground.join("bob", { rules: EVERYWHERE });
  await ground.running(async () => {
    const real = udp({ src: ALICE, dst: SERVER, srcPort: 4_000, dstPort: 9_000 });
    await ground.send(alice, real);
    ground.device.written.length = 0;
    const error = { src: STRANGER, dst: ALICE };
    await ground.arrive(
      icmpError({ ...error, quoted: udp({ src: ALICE, dst: SERVER, dstPort: 9_001 }) }),
      icmpError({ ...error, quoted: udp({ src: ALICE, dst: STRANGER }) }),
      icmpError({ ...error, quoted: udp({ src: SERVER, dst: ALICE, srcPort: 9_000, dstPort: 4_000 }) }),
      icmpError({ ...error, quoted: new Uint8Array(0) }),
      icmpError({ ...error, quoted: real.subarray(0, 24) }),
      icmpError({ ...error, quoted: real, type: 5, code: 1 }),
      icmpError({ ...error, quoted: real, type: 4, code: 0 }),
      icmpError({ src: STRANGER, dst: BOB, quoted: real }),
      icmpError({ src: SERVER6, dst: ALICE6, quoted: real, type: 1 }),
      icmpError({ src: SERVER6, dst: ALICE6, quoted: udp({ src: ALICE6, dst: SERVER6 }), type: 137 }),
    );
    assertNothingPassed(ground, alice, bob);
    await ground.arrive(icmpError({ ...error, quoted: real }));
    assert.equal(alice.link.sent.length, 1);
  });
});

Deno.test("an identity that comes back under another address is not told of the one before", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const before = udp({ src: ALICE, dst: SERVER });
  await ground.running(async () => {
    await ground.send(alice, before);
    alice.session.detach();
    const again = ground.join("alice", { rules: EVERYWHERE, addresses: ["10.100.0.11"] });
    await ground.arrive(
      icmpError({ src: SERVER, dst: "10.100.0.11", quoted: before }),
      udp({ src: SERVER, dst: "10.100.0.11", srcPort: 9_000, dstPort: 4_000 }),
    );
    assert.deepEqual(again.link.sent, NOTHING);
  });
});

Deno.test("a stranger outside pretends to be a peer", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: [wordRule("identity", ["agent/bob"])] });
  const bob = ground.join("bob");
  await ground.running(async () => {
    await ground.send(alice, udp({ src: ALICE, dst: BOB, srcPort: 4_000, dstPort: 9_000 }));
    bob.link.sent.length = 0;
    await ground.arrive(
      udp({ src: BOB, dst: ALICE, srcPort: 9_000, dstPort: 4_000 }),
      udp({ src: ALICE, dst: BOB, srcPort: 4_000, dstPort: 9_000 }),
      udp({ src: ALICE, dst: ALICE }),
    );
  });
  assertNothingPassed(ground, alice, bob);
  assert.deepEqual(ground.hub.counters.drops(), { spoofed_source: 3 });
});

Deno.test("senders of large packets are answered only so often", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    await ground.send(alice, udp({ src: ALICE, dst: SERVER }));
    ground.device.written.length = 0;
    const large = { srcPort: 9_000, dstPort: 4_000, data: new Uint8Array(1_480) };
    await ground.arrive(...new Array(1_000).fill(udp({ src: SERVER, dst: ALICE, ...large })));
    assert.equal(ground.device.written.length, 200);
    assert.deepEqual(alice.session.counters.drops(), { too_large: 1_000 });
  });
});
