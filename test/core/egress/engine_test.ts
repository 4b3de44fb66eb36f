/** Many clients: nobody's flood costs another a flow, sessions share what is theirs, and everything is bounded. */

import assert from "node:assert/strict";
import type { EgressClient } from "../../../src/core/egress/egress_client.ts";
import { EgressEngine } from "../../../src/core/egress/engine.ts";
import type { FlowEntry } from "../../../src/core/egress/flow.ts";
import { CLIENT4, packet, type PacketSpec, reply, rulesOf } from "../../support/egress.ts";

const RULES = rulesOf("{id: anywhere, type: ip_cidr, action: allow, destinations: [0.0.0.0/0]}");
const NARROW = rulesOf("{id: web, type: ip_cidr, action: allow, destinations: [192.0.2.0/24]}");

function spec(index: number): PacketSpec {
  return { to: `192.0.2.${index & 255}`, sport: 1_024 + (index >> 8), protocol: "UDP" };
}

function closedBy(engine: EgressEngine, now: number): FlowEntry[] {
  const closed: FlowEntry[] = [];
  engine.expire(now, (flow) => closed.push(flow));
  return closed;
}

for (const [what, rules] of [["denied", undefined], ["allowed", RULES]] as const) {
  Deno.test(`a flood of ${what} garbage never pushes out a live flow of another client`, () => {
    const engine = new EgressEngine({ capacityPerClient: 4_096, capacity: 1_000 });
    const bystanders = ["bob", "carol"].map((identity) => engine.client({ identity, rules: RULES }));
    const flows = bystanders.map((client) =>
      Array.from({ length: 200 }, (_, i) => client.outbound(packet(spec(i)), 0))
    );
    const flooders = ["mallory", "trudy"].map((identity) => engine.client({ identity, rules }));
    for (let i = 0; i < 20_000; i++) {
      flooders[i & 1]!.outbound(packet({ to: `203.0.${(i >> 8) & 255}.${i & 255}`, port: i & 1023 }), 1);
    }
    assert.ok(engine.size <= 1_000 + 2 * 64, `${engine.size}`);
    bystanders.forEach((client, who) => {
      for (let i = 0; i < 200; i++) assert.equal(client.inbound(reply(spec(i)), 2), flows[who]![i]);
    });
    const newcomer = engine.client({ identity: "dave", rules: RULES });
    const first = Array.from({ length: 64 }, (_, i) => newcomer.outbound(packet(spec(i)), 3));
    first.forEach((flow, i) =>
      assert.equal(newcomer.inbound(reply(spec(i)), 3), flow, "everybody has some room")
    );
  });
}

Deno.test("clients share nothing: one's flow admits no reply to another", () => {
  const engine = new EgressEngine({ capacityPerClient: 16, capacity: 16 });
  const alice = engine.client({ identity: "alice", rules: RULES });
  const bob = engine.client({ identity: "bob", rules: RULES });
  alice.outbound(packet(spec(1)), 0);
  assert.equal(bob.inbound(reply(spec(1)), 0), undefined);
  const answer = { question: "a.b", addresses: [] };
  assert.equal(bob.learn(answer, reply(spec(1)), 0), false);
});

Deno.test("a takeover keeps the flows and brings the newest rules", () => {
  const engine = new EgressEngine({ capacityPerClient: 16, capacity: 16 });
  const first = engine.client({ identity: "alice", rules: RULES });
  const inside = first.outbound(packet(spec(1)), 0);
  first.outbound(packet({ to: "203.0.113.1" }), 0);
  const second = engine.client({ identity: "alice", rules: NARROW });
  engine.release(first, 1);
  assert.equal(second.inbound(reply(spec(1)), 1), inside);
  assert.equal(second.inbound(reply({ to: "203.0.113.1" }), 1), undefined);
});

Deno.test("an identity that comes back in time finds its flows, later it does not", () => {
  for (const [absence, kept] of [[299_000, true], [301_000, false]] as const) {
    const engine = new EgressEngine({ capacityPerClient: 16, capacity: 16 });
    const before = engine.client({ identity: "alice", rules: RULES });
    const web: PacketSpec = { to: "192.0.2.1" };
    before.outbound(packet(web), 0);
    before.inbound(reply(web), 0);
    engine.release(before, 0);
    const closed = closedBy(engine, absence);
    const after = engine.client({ identity: "alice", rules: RULES });
    assert.equal(after.inbound(reply(web), absence) !== undefined, kept);
    assert.equal(closed.length, kept ? 0 : 1);
    assert.equal(engine.size, kept ? 1 : 0);
    after.outbound(packet(web), absence);
    after.inbound(reply(web), absence);
    assert.deepEqual(closedBy(engine, absence + 600_000), [], "who is back is absent no more");
  }
});

Deno.test("release() counts sessions, and once too often does no harm", () => {
  const engine = new EgressEngine({ capacityPerClient: 16, capacity: 16 });
  const old = engine.client({ identity: "alice", rules: RULES });
  engine.client({ identity: "alice", rules: RULES });
  old.outbound(packet(spec(1)), 0);
  engine.release(old, 0);
  closedBy(engine, 170_000);
  assert.equal(engine.size, 1, "one session is left");
  engine.release(old, 0);
  engine.release(old, 0);
  assert.deepEqual(closedBy(engine, 300_000).length, 1);
  const client = engine.client({ identity: "alice", rules: RULES });
  const web: PacketSpec = { to: "192.0.2.1" };
  client.outbound(packet(web), 300_000);
  client.inbound(reply(web), 300_000);
  engine.release(old, 300_000);
  closedBy(engine, 700_000);
  assert.ok(client.inbound(reply(web), 700_000), "a client of before does not end the one of now");
});

Deno.test("clients without a session are bounded", () => {
  const engine = new EgressEngine({ capacityPerClient: 16, capacity: 100_000 });
  for (let i = 0; i < 3_000; i++) {
    const client = engine.client({ identity: `agent-${i}`, rules: RULES });
    client.outbound(packet(spec(1)), 0);
    engine.release(client, i);
  }
  assert.equal(engine.size, 1_024);
  const newest = engine.client({ identity: "agent-2999", rules: RULES });
  assert.ok(newest.inbound(reply(spec(1)), 0));
});

Deno.test("expire() reports each closed flow once with its client, evicted ones too, and works a backlog off in parts", () => {
  const engine = new EgressEngine({ capacityPerClient: 10_000, capacity: 20_000 });
  const alice = engine.client({ identity: "alice", rules: RULES });
  const bob = engine.client({ identity: "bob", rules: RULES });
  for (let i = 0; i < 10_005; i++) alice.outbound(packet(spec(i)), 0);
  bob.outbound(packet(spec(1)), 0);
  const seen = new Map<FlowEntry, EgressClient>();
  const calls: number[] = [];
  for (let call = 0; call < 4; call++) {
    let reported = 0;
    engine.expire(181_000, (flow, client) => {
      assert.equal(seen.has(flow), false);
      seen.set(flow, client);
      reported++;
    });
    calls.push(reported);
  }
  assert.deepEqual(calls, [4_096 + 5, 4_096, 1_809, 0]);
  assert.equal([...seen.values()].filter((client) => client === bob).length, 1);
  assert.equal(engine.size, 0);
});

Deno.test("a flow in use outlives every call of expire()", () => {
  const engine = new EgressEngine({ capacityPerClient: 16, capacity: 16 });
  const client = engine.client({ identity: "alice", rules: RULES });
  for (let now = 0; now < 1_000_000; now += 500) {
    client.outbound(packet(spec(1)), now);
    assert.deepEqual(closedBy(engine, now), []);
  }
});

Deno.test("after a restart a connection in the middle goes on, where the client may open it and for a while", () => {
  const rules = rulesOf(
    "{id: web, type: ip_cidr, action: allow, destinations: [192.0.2.0/24], protocol: tcp, ports: [443]}",
  );
  const engine = new EgressEngine({ capacityPerClient: 64, capacity: 64, adoptsUntil: 1_000 });
  const client = engine.client({ identity: "alice", rules });
  const download: PacketSpec = { to: "192.0.2.1", port: 443, flags: 0x10 };
  for (const flags of [0x02, 0x12, 0x04, 0x14, 0x01]) {
    assert.equal(client.inbound(reply({ ...download, flags }), 0), undefined, `TCP flags ${flags}`);
  }
  for (
    const other of [
      { ...download, port: 444 },
      { ...download, to: "198.51.100.1" },
      { ...download, protocol: "UDP" },
    ] as const
  ) {
    assert.equal(client.inbound(reply(other), 0), undefined);
  }
  assert.equal(client.size, 0, "what is refused leaves nothing behind");
  const late: PacketSpec = { ...download, sport: 40_001 };
  const flow = client.inbound(reply(download), 999);
  assert.deepEqual([flow?.rule, flow?.isNew, flow?.port, flow?.source], ["web", true, 443, CLIENT4]);
  assert.equal(client.outbound(packet(download), 999), flow);
  assert.equal(client.inbound(reply(late), 1_000), undefined, "too late");
  assert.equal(client.inbound(reply(download), 1_000), flow);
});

Deno.test("no rule opens the relay's own machine, however broad or narrow it is; its neighbours stay open", () => {
  for (
    const rules of [RULES, rulesOf("{id: host, type: ip_cidr, action: allow, destinations: [192.0.2.1/32]}")]
  ) {
    const own = packet({ to: "192.0.2.1", port: 22 }).dst3 | 0;
    const isOwnAddress = ({ version, dst3 }: { version: 4 | 6; dst3: number }) =>
      version === 4 && dst3 === own;
    const engine = new EgressEngine({ capacityPerClient: 16, capacity: 16, isOwnAddress });
    const client = engine.client({ identity: "alice", rules });
    const flow = client.outbound(packet({ to: "192.0.2.1", port: 22 }), 0);
    assert.deepEqual([flow.action, flow.reason], ["drop", "not_routable"]);
    const isNeighbourOpen = rules === RULES;
    assert.equal(
      client.outbound(packet({ to: "192.0.2.2", port: 22 }), 0).action === "allow",
      isNeighbourOpen,
    );
  }
});
