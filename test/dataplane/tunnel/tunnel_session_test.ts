/** Links that are slow, stuck or gone, and what it costs the others. */

import assert from "node:assert/strict";
import { ALICE, BOB, cidrRule, HubGround, type Peer, SERVER } from "./hub_ground.ts";
import { settled } from "./fakes.ts";
import { udp } from "./packets.ts";

const EVERYWHERE = [cidrRule(["0.0.0.0/0"])];

/** Packets of the backlog: two halves of 128. */
const BACKLOG = 256;

/** An answer to the flow that {@linkcode openFlow} opened, told apart by its first byte of data. */
function answer(dst: string, mark: number): Uint8Array<ArrayBuffer> {
  return udp({
    src: SERVER,
    dst,
    srcPort: 9_000,
    dstPort: 4_000,
    data: new Uint8Array(100).fill(mark & 0xff).fill(mark >> 8, 1),
  });
}

function answers(dst: string, count: number, from = 0): Uint8Array<ArrayBuffer>[] {
  return Array.from({ length: count }, (_, i) => answer(dst, from + i));
}

async function openFlow(ground: HubGround, peer: Peer, src: string): Promise<void> {
  await ground.send(peer, udp({ src, dst: SERVER }));
}

Deno.test("a full link gets what waited in order as soon as it takes packets", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    await openFlow(ground, alice, ALICE);
    alice.link.room = 10;
    const sent = answers(ALICE, 200);
    await ground.arrive(...sent);
    assert.deepEqual([alice.link.sent.length, alice.session.waiting], [10, 190]);
    alice.link.grant(100);
    await settled();
    const late = answers(ALICE, 50, 200);
    await ground.arrive(...late);
    assert.deepEqual([alice.link.sent.length, alice.session.waiting], [110, 140]);
    alice.link.grant(1_000);
    await ground.turns.run();
    assert.deepEqual(alice.link.sent, [...sent, ...late]);
    assert.equal(alice.session.waiting, 0);
    assert.deepEqual(alice.session.counters.drops(), {});
    await ground.arrive(answer(ALICE, 9));
    assert.equal(alice.link.sent.length, 251, "And then packets go straight out again");
  });
});

Deno.test("no packet overtakes those that wait", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    await openFlow(ground, alice, ALICE);
    alice.link.room = 0;
    const sent = answers(ALICE, 30);
    await ground.arrive(...sent.slice(0, 20));
    // There is room, and nobody has told yet.
    alice.link.room = 1_000;
    await ground.arrive(...sent.slice(20));
    assert.deepEqual(alice.link.sent, []);
    alice.link.grant(0);
    await ground.turns.run();
    assert.deepEqual(alice.link.sent, sent);
  });
});

Deno.test("a session that never drains holds a bounded number of packets and stops nobody", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const bob = ground.join("bob", { rules: EVERYWHERE });
  await ground.running(async () => {
    await openFlow(ground, alice, ALICE);
    await openFlow(ground, bob, BOB);
    alice.link.room = 0;
    for (let round = 0; round < 40; round++) {
      await ground.arrive(...answers(ALICE, 100), ...answers(BOB, 10));
    }
    assert.equal(bob.link.sent.length, 400);
    assert.deepEqual(alice.session.waiting, BACKLOG);
    assert.deepEqual(alice.session.counters.drops(), { link_full: 4_000 - BACKLOG });
    assert.equal(alice.link.asked, 1, "One promise, not one per packet");
  });
});

Deno.test("the device waits a little for a link that fills up, and never again for one that stays full", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await openFlow(ground, alice, ALICE);
  const run = ground.hub.run();
  alice.link.room = 0;
  ground.device.arrive(...answers(ALICE, 100));
  await settled();
  const reads = ground.device.reads;
  ground.device.arrive(...answers(ALICE, 10));
  await ground.turns.run(4);
  assert.equal(ground.device.reads, reads, "Not read while the link has its turns");
  await ground.turns.run();
  assert.equal(alice.session.isSlow, true);
  const before = ground.turns.waiting;
  ground.device.arrive(...answers(ALICE, 10));
  await settled();
  assert.equal(ground.turns.waiting, before + 1, "The turn after every read");
  await ground.turns.run(1);
  assert.equal(ground.turns.waiting, 0, "And none for the link");
  assert.equal(alice.session.waiting, 120);
  alice.link.grant(1_000);
  await ground.turns.run();
  assert.equal(alice.session.isSlow, false);
  ground.hub.close();
  await run;
});

Deno.test("a link that says it is writable and takes nothing is asked a few times a second", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    await openFlow(ground, alice, ALICE);
    alice.link.hasEnded = true;
    await ground.arrive(...answers(ALICE, 100));
    await ground.turns.run(1_000);
    const { asked } = alice.link;
    assert.ok(asked <= 20, `Asked ${asked} times`);
    await ground.arrive(...answers(ALICE, 10));
    await ground.turns.run(1_000);
    assert.equal(alice.link.asked, asked);
    alice.link.hasEnded = false;
    ground.hub.tick();
    await ground.turns.run();
    assert.equal(alice.link.sent.length, 110);
  });
});

Deno.test("a link that throws costs its own packets only", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  const bob = ground.join("bob", { rules: EVERYWHERE });
  await ground.running(async () => {
    await openFlow(ground, alice, ALICE);
    await openFlow(ground, bob, BOB);
    alice.link.fault = new Error("The connection is gone");
    await ground.arrive(answer(ALICE, 1), answer(BOB, 1));
    assert.deepEqual(ground.errors, [alice.link.fault]);
    assert.equal(bob.link.sent.length, 1);
    // While packets wait, too.
    alice.link.fault = undefined;
    alice.link.room = 0;
    await ground.arrive(...answers(ALICE, 3));
    alice.link.fault = new Error("The connection is gone again");
    alice.link.grant(10);
    await ground.turns.run();
    assert.equal(ground.errors.at(-1), alice.link.fault);
    await ground.arrive(answer(BOB, 2));
    assert.equal(bob.link.sent.length, 2);
  });
});

Deno.test("a session is detached while packets wait: they are counted as lost, and nothing goes on", async () => {
  const ground = new HubGround();
  const alice = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    await openFlow(ground, alice, ALICE);
    alice.link.room = 0;
    await ground.arrive(...answers(ALICE, 20));
    alice.session.detach();
    alice.link.grant(100);
    ground.hub.tick();
    await ground.turns.run();
    assert.deepEqual(alice.link.sent, []);
    assert.deepEqual(alice.session.counters.drops(), { ended: 20 });
    const again = ground.join("alice", { rules: EVERYWHERE });
    await ground.arrive(answer(ALICE, 1));
    assert.equal(again.link.sent.length, 1);
  });
});

Deno.test("a session is taken over while packets wait", async () => {
  const ground = new HubGround();
  const first = ground.join("alice", { rules: EVERYWHERE });
  await ground.running(async () => {
    await openFlow(ground, first, ALICE);
    first.link.room = 0;
    await ground.arrive(...answers(ALICE, 20));
    const second = ground.join("alice", { rules: EVERYWHERE });
    first.link.grant(100);
    await ground.arrive(answer(ALICE, 99));
    assert.deepEqual(first.link.sent, []);
    assert.deepEqual(second.link.sent, [answer(ALICE, 99)]);
  });
});
