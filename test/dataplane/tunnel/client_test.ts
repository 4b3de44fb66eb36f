import assert from "node:assert/strict";
import fc from "fast-check";
import { TunnelClient } from "../../../src/dataplane/tunnel/client.ts";
import { FakeDevice, FakeLink, FakeTurns, settled } from "./fakes.ts";
import { addresses, ALICE, ALICE6, BOB, GATEWAY, routes, SERVER, SERVER6, STRANGER } from "./hub_ground.ts";
import { echo, facts, icmpError, tcp, udp } from "./packets.ts";

class ClientGround {
  readonly device = new FakeDevice();
  readonly turns = new FakeTurns();
  readonly link = new FakeLink();
  readonly errors: unknown[] = [];
  now = 1_000_000;
  readonly client = new TunnelClient({
    device: this.device,
    schedule: this.turns.schedule,
    now: () => this.now,
    onError: (error) => this.errors.push(error),
  });

  constructor(options: { readonly linked?: boolean } = {}) {
    this.client.setAddresses(addresses(ALICE, ALICE6));
    this.client.setRoutes(routes(["192.0.2.0/24", "2001:db8::/32"]));
    if (options.linked ?? true) this.client.setLink(this.link);
  }

  /** Packets come from our kernel. */
  async arrive(...packets: readonly Uint8Array[]): Promise<void> {
    this.device.arrive(...packets);
    await this.turns.run();
  }

  /** Packets come from the relay. */
  async receive(...packets: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
    for (const packet of packets) this.client.receive(packet);
    await this.turns.run();
  }

  async running(test: () => Promise<void>): Promise<void> {
    const run = this.client.run();
    try {
      await test();
    } finally {
      this.client.close();
      await this.turns.run();
      await run;
    }
  }
}

const OUT = udp({ src: ALICE, dst: SERVER });
const OUT6 = udp({ src: ALICE6, dst: SERVER6 });

function many(count: number): Uint8Array<ArrayBuffer>[] {
  return Array.from(
    { length: count },
    (_, i) => udp({ src: ALICE, dst: SERVER, data: new Uint8Array(1_200).fill(i & 0xff).fill(i >> 8, 1) }),
  );
}

Deno.test("packets of ours to the routes go to the link, those from the routes to the device", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    await ground.arrive(OUT, OUT6);
    assert.deepEqual(ground.link.sent, [OUT, OUT6]);
    const back = [udp({ src: SERVER, dst: ALICE }), udp({ src: SERVER6, dst: ALICE6 })];
    await ground.receive(...back);
    assert.deepEqual(ground.device.written, back);
    assert.deepEqual(ground.device.writes, [2]);
  });
  const { packetsIn, packetsOut, dropped } = ground.client.counters;
  assert.deepEqual([packetsIn, packetsOut, dropped], [2, 2, 0]);
});

Deno.test("[RFC9484-11] a foreign source leaves nothing behind but a count", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    await ground.arrive(
      udp({ src: BOB, dst: SERVER }),
      udp({ src: "0.0.0.0", dst: SERVER }),
      udp({ src: "fe80::1", dst: "ff02::2" }),
      udp({ src: "fe80::1", dst: SERVER6 }),
      new Uint8Array(60),
    );
    assert.deepEqual([ground.link.sent, ground.device.written], [[], []]);
    assert.deepEqual(ground.client.counters.drops(), { spoofed_source: 4, bad_version: 1 });
  });
});

Deno.test("a destination outside the routes is refused at once", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    await ground.arrive(tcp({ src: ALICE, dst: STRANGER, flags: 2 }), OUT);
    assert.deepEqual(ground.link.sent, [OUT]);
    const answer = facts(ground.device.written[0]!);
    assert.deepEqual([answer.src, answer.dst, answer.type, answer.code], [STRANGER, ALICE, 3, 0]);
    ground.client.setRoutes(routes(["198.51.100.0/24"]));
    await ground.arrive(tcp({ src: ALICE, dst: STRANGER, flags: 2 }), OUT);
    assert.equal(ground.link.sent.length, 2);
    assert.equal(facts(ground.link.sent[1]!).dst, STRANGER);
  });
});

Deno.test("the relay sends what it should not: to others, from outside the routes, in our own name", async () => {
  const ground = new ClientGround();
  const sent = udp({ src: ALICE, dst: SERVER });
  await ground.receive(
    udp({ src: SERVER, dst: BOB }),
    udp({ src: SERVER, dst: "127.0.0.1" }),
    udp({ src: SERVER6, dst: "ff02::1" }),
    udp({ src: STRANGER, dst: ALICE }),
    echo({ src: STRANGER, dst: ALICE }),
    udp({ src: ALICE, dst: ALICE }),
    udp({ src: "127.0.0.1", dst: ALICE }),
    icmpError({ src: GATEWAY, dst: ALICE, quoted: udp({ src: BOB, dst: SERVER }) }),
    icmpError({ src: GATEWAY, dst: ALICE, quoted: udp({ src: ALICE, dst: STRANGER }) }),
    icmpError({ src: GATEWAY, dst: ALICE, quoted: sent, type: 5 }),
    icmpError({ src: GATEWAY, dst: BOB, quoted: sent }),
    new Uint8Array(0),
    new Uint8Array(2_000).fill(0x45),
  );
  assert.deepEqual(ground.device.written, []);
  assert.equal(ground.client.counters.dropped, 13);
  assert.deepEqual(ground.errors, []);
});

Deno.test("DNS answers wait while they are held, nothing else does, and none is lost", async () => {
  const ground = new ClientGround();
  const answer = (number: number) =>
    udp({ src: SERVER, dst: ALICE, srcPort: 53, dstPort: 5_353, data: Uint8Array.of(number) });
  const other = udp({ src: SERVER, dst: ALICE, srcPort: 54 });
  const data = () => ground.device.written.splice(0).map((packet) => packet.at(-1));
  ground.client.holdAnswers();
  const first = answer(0);
  await ground.receive(first, other, tcp({ src: SERVER, dst: ALICE, srcPort: 53 }));
  assert.equal(data().length, 2);
  // What came is the link's again.
  first.fill(0xff);
  for (let number = 1; number < 70; number++) await ground.receive(answer(number));
  assert.deepEqual(data(), [64, 65, 66, 67, 68, 69], "no more than so many are held");
  ground.client.releaseAnswers();
  await ground.turns.run();
  assert.deepEqual(data(), Array.from({ length: 64 }, (_, i) => i));
  await ground.receive(answer(7));
  assert.deepEqual(data(), [7]);
  ground.client.releaseAnswers();
  assert.equal(ground.device.written.length, 0);
});

Deno.test("nobody outside speaks in our name, however wide the routes are", async () => {
  const ground = new ClientGround();
  ground.client.setRoutes(routes(["0.0.0.0/0", "::/0"]));
  await ground.receive(udp({ src: ALICE, dst: ALICE }), udp({ src: ALICE6, dst: ALICE6 }));
  assert.deepEqual(ground.device.written, []);
  assert.deepEqual(ground.client.counters.drops(), { spoofed_source: 2 });
});

Deno.test("[RFC9484-7.2.1] an ICMP error about a packet of ours may come from anywhere", async () => {
  const ground = new ClientGround();
  const errors = [GATEWAY, STRANGER, SERVER].map((src) =>
    icmpError({ src, dst: ALICE, quoted: OUT, type: 11, code: 0 })
  );
  await ground.receive(...errors);
  assert.deepEqual(ground.device.written, errors);
});

Deno.test("random bytes from the relay never throw, and pass only from the routes to us", () => {
  const ground = new ClientGround();
  const templates = [udp({ src: SERVER, dst: ALICE }), udp({ src: SERVER6, dst: ALICE6 })];
  const mutated = fc.tuple(
    fc.constantFrom(...templates),
    fc.array(fc.tuple(fc.nat(47), fc.nat(255)), { maxLength: 3 }),
  ).map(([template, changes]) => {
    const bytes = template.slice();
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return bytes;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 100 }), mutated), (bytes) => {
      ground.client.receive(new Uint8Array(bytes));
    }),
    { numRuns: 2_000 },
  );
  const toUs = [ALICE, facts(OUT6).src];
  for (const written of ground.device.written) assert.ok(toUs.includes(facts(written).dst));
  assert.deepEqual(ground.errors, []);
});

Deno.test("the device's MTU follows the link's", async () => {
  const ground = new ClientGround();
  assert.deepEqual(ground.device.mtus, [1_400]);
  await ground.running(async () => {
    ground.link.mtu = 1_320;
    await ground.arrive(udp({ src: ALICE, dst: SERVER, data: new Uint8Array(1_300) }));
    assert.deepEqual(ground.device.mtus, [1_400, 1_320]);
    const answer = ground.device.written[0]!;
    assert.deepEqual([facts(answer).type, facts(answer).code], [3, 4]);
    assert.equal(new DataView(answer.buffer).getUint16(26), 1_320);
    ground.link.mtu = 1_380;
    ground.client.tick();
    ground.client.tick();
    assert.deepEqual(ground.device.mtus, [1_400, 1_320, 1_380]);
    const other = new FakeLink();
    other.mtu = 1_280;
    ground.client.setLink(other);
    assert.equal(ground.device.mtus.at(-1), 1_280);
  });
});

Deno.test("a packet that may be fragmented goes to the link whatever its size", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    const large = udp({ src: ALICE, dst: SERVER, data: new Uint8Array(2_000), dontFragment: false });
    await ground.arrive(large);
    assert.deepEqual(ground.link.sent, [large]);
  });
});

Deno.test("a full link stops the reading of the device, and nothing is lost or out of order", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    ground.link.room = 300;
    const sent = many(1_000);
    await ground.arrive(...sent);
    assert.equal(ground.link.sent.length, 300);
    const { reads } = ground.device;
    assert.ok(ground.device.waiting > 0);
    for (const grant of [1, 99, 300, 1_000]) {
      ground.link.grant(grant);
      await ground.turns.run();
    }
    assert.ok(ground.device.reads > reads);
    assert.deepEqual(ground.link.sent, sent);
    assert.equal(ground.client.counters.dropped, 0);
  });
});

Deno.test("packets that wait for a link leave by the next one, the device untouched", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    const sent = many(20);
    ground.link.room = 5;
    await ground.arrive(...sent);
    ground.client.setLink(undefined);
    ground.now += 10_000;
    ground.client.tick();
    await ground.turns.run();
    assert.deepEqual(ground.device.written, []);
    const next = new FakeLink();
    ground.client.setLink(next);
    await ground.turns.run();
    assert.deepEqual([...ground.link.sent, ...next.sent], sent);
    assert.deepEqual(ground.client.counters.drops(), {});
  });
});

Deno.test("without a link packets wait a while, and are refused after it", async () => {
  const ground = new ClientGround({ linked: false });
  await ground.running(async () => {
    await ground.arrive(OUT, tcp({ src: ALICE, dst: SERVER, flags: 2 }));
    ground.now += 14_000;
    ground.client.tick();
    await ground.turns.run();
    assert.deepEqual(ground.device.written, []);
    ground.now += 2_000;
    ground.client.tick();
    await ground.turns.run();
    assert.deepEqual(ground.device.written.map((written) => facts(written).code), [0, 0]);
    assert.deepEqual(ground.client.counters.drops(), { no_link: 2 });
    await ground.arrive(OUT);
    assert.equal(ground.device.written.length, 3, "And then at once");
    ground.client.setLink(ground.link);
    await ground.arrive(OUT);
    assert.equal(ground.link.sent.length, 1);
    // A new gap is waited for again.
    ground.client.setLink(undefined);
    await ground.arrive(OUT);
    assert.equal(ground.device.written.length, 3);
  });
});

Deno.test("a link that says it is writable and takes nothing is asked a few times a second", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    ground.link.hasEnded = true;
    await ground.arrive(...many(3));
    await ground.turns.run(1_000);
    const { sends } = ground.link;
    assert.ok(sends <= 20, `Tried ${sends} times`);
    ground.client.tick();
    await ground.turns.run(1_000);
    assert.ok(ground.link.sends > sends);
    ground.link.hasEnded = false;
    ground.client.tick();
    await ground.turns.run();
    assert.equal(ground.link.sent.length, 3);
  });
});

Deno.test("a link that fills up again and again is asked again and again", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    ground.link.room = 0;
    const sent = many(60);
    await ground.arrive(...sent);
    for (let i = 0; i < sent.length; i++) {
      ground.link.grant(1);
      await settled();
    }
    assert.deepEqual(ground.link.sent, sent);
  });
});

Deno.test("a new link is asked even where the one before was given up", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    ground.link.hasEnded = true;
    await ground.arrive(...many(3));
    for (let i = 0; i < 20; i++) await settled();
    const next = new FakeLink();
    next.room = 0;
    ground.client.setLink(next);
    await ground.turns.run();
    next.grant(10);
    await ground.turns.run();
    assert.deepEqual(next.sent, many(3));
  });
});

Deno.test("a link that throws is one that takes nothing: its packets wait for the next", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    ground.link.fault = new Error("The connection is gone");
    await ground.arrive(...many(3));
    await ground.turns.run(1_000);
    assert.equal(ground.errors[0], ground.link.fault);
    const next = new FakeLink();
    ground.client.setLink(next);
    await ground.turns.run();
    assert.deepEqual(next.sent, many(3));
  });
});

Deno.test("refusals into our kernel are limited", async () => {
  const ground = new ClientGround();
  await ground.running(async () => {
    await ground.arrive(...Array.from({ length: 500 }, () => udp({ src: ALICE, dst: STRANGER })));
    assert.equal(ground.device.written.length, 100);
    assert.deepEqual(ground.client.counters.drops(), { out_of_scope: 500 });
  });
});

Deno.test("the event loop gets its turn while the device never runs empty", async () => {
  const ground = new ClientGround();
  ground.device.arrive(...many(2_000));
  const run = ground.client.run();
  await settled();
  assert.ok(ground.device.waiting > 0, "The loop emptied the device in one go");
  await ground.turns.run();
  assert.equal(ground.link.sent.length, 2_000);
  ground.client.close();
  ground.client.close();
  await run;
});

Deno.test("the loop ends when it is closed while it waits for a link", async () => {
  const ground = new ClientGround({ linked: false });
  const run = ground.client.run();
  await ground.arrive(OUT);
  ground.client.close();
  await run;
});

Deno.test("a device that fails ends the loop; one that takes no MTU does not", async () => {
  const ground = new ClientGround();
  ground.device.fault = new Error("The device is gone");
  ground.link.mtu = 1_300;
  ground.client.tick();
  assert.deepEqual(ground.errors, [ground.device.fault]);
  await assert.rejects(ground.client.run(), /is gone/);
  // What the link brings then is counted, and nobody is disturbed.
  await ground.receive(udp({ src: SERVER, dst: ALICE }));
  assert.equal(ground.client.refusedByDevice, 1);
});
