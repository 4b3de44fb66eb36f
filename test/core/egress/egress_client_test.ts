/** One client's packets: attacks first, then how flows live, end and change with the rules. */

import assert from "node:assert/strict";
import { formatIp, ipWords, parseIp } from "../../../src/base/ip.ts";
import type { ClientRules } from "../../../src/core/egress/client_rules.ts";
import type { EgressClient } from "../../../src/core/egress/egress_client.ts";
import { EgressEngine } from "../../../src/core/egress/engine.ts";
import {
  CLIENT4,
  compileText,
  identity,
  packet,
  type PacketSpec,
  reply,
  rulesOf,
} from "../../support/egress.ts";

const WEB =
  "{id: web, type: ip_cidr, action: allow, destinations: [192.0.2.0/24, '2001:db8::/32'], protocol: tcp}";
const DNS = "{id: dns, type: ip_cidr, action: allow, destinations: [8.8.8.8], protocol: udp, ports: [53]}";
const PING = "{id: ping, type: ip_cidr, action: allow, destinations: [192.0.2.0/24], protocol: icmp}";
const ANYWHERE = "{id: anywhere, type: ip_cidr, action: allow, destinations: [0.0.0.0/0, '::/0']}";
const SYN = 2;
const SYN_ACK = 0x12;
const FIN_ACK = 0x11;
const RST = 4;

function clientOf(rules: ClientRules | undefined, { capacityPerClient = 1_024 } = {}): EgressClient {
  return new EgressEngine({ capacityPerClient, capacity: 65_536 }).client({ identity: "alice", rules });
}

Deno.test("nothing comes in that the client did not ask for", () => {
  const client = clientOf(rulesOf(ANYWHERE));
  for (const protocol of ["TCP", "UDP", "ICMP", 47] as const) {
    const spec: PacketSpec = { to: "192.0.2.1", protocol };
    assert.equal(client.inbound(reply(spec), 0), undefined, `${protocol} before the client spoke`);
    client.outbound(packet(spec), 0);
    assert.equal(client.inbound(reply(spec), 0)?.rule, "anywhere", `${protocol} after it`);
  }
});

const OPENED: readonly [what: string, opened: PacketSpec, ...spoofed: PacketSpec[]][] = [
  [
    "TCP",
    { to: "192.0.2.1", port: 443, sport: 50_000 },
    { to: "192.0.2.2", port: 443, sport: 50_000 },
    { to: "192.0.2.1", port: 444, sport: 50_000 },
    { to: "192.0.2.1", port: 443, sport: 50_001 },
    { to: "192.0.2.1", port: 50_000, sport: 443 },
    { to: "192.0.2.1", port: 443, sport: 50_000, protocol: "UDP" },
    { to: "192.0.2.1", protocol: "ICMP" },
    { from: "10.100.0.11", to: "192.0.2.1", port: 443, sport: 50_000 },
  ],
  [
    "TCP over IPv6",
    { to: "2001:db8::1" },
    { to: "2001:db8::2" },
    { to: "2001:db8:0:0:1::1" },
    { to: "2001:db8:0:1::1" },
    { to: "2001:db9::1" },
    { to: "2001:db8::1", from: "fd00:100::b" },
    { to: "2001:db8::1", from: "fd00:100:0:1::a" },
  ],
  [
    "an echo",
    { to: "192.0.2.1", protocol: "ICMP", id: 7 },
    { to: "192.0.2.1", protocol: "ICMP", id: 8 },
    { to: "192.0.2.2", protocol: "ICMP", id: 7 },
    { to: "192.0.2.1", protocol: "UDP", sport: 7, port: 7 },
  ],
  ["GRE", { to: "192.0.2.1", protocol: 47 }, { to: "192.0.2.1", protocol: 50 }, {
    to: "192.0.2.2",
    protocol: 47,
  }],
];

for (const [what, opened, ...spoofed] of OPENED) {
  Deno.test(`a reply to ${what} passes, each of its ${spoofed.length} neighbours is dropped`, () => {
    const client = clientOf(rulesOf(ANYWHERE));
    const flow = client.outbound(packet(opened), 0);
    for (const spec of spoofed) assert.equal(client.inbound(reply(spec), 0), undefined, JSON.stringify(spec));
    assert.equal(client.inbound(reply(opened), 0), flow);
    assert.deepEqual([flow.packetsOut, flow.bytesOut, flow.packetsIn, flow.bytesIn], [1, 100, 1, 100]);
  });
}

Deno.test("an IPv6 packet with the IPv4-mapped form of a flow's addresses is no part of it", () => {
  const client = clientOf(rulesOf(ANYWHERE));
  client.outbound(packet({ to: "192.0.2.1" }), 0);
  const disguised = reply({ to: "::ffff:192.0.2.1", from: `::ffff:${CLIENT4}` });
  assert.equal(client.inbound(disguised, 0), undefined);
  const sent = client.outbound(packet({ to: "::ffff:192.0.2.1", from: `::ffff:${CLIENT4}` }), 0);
  assert.deepEqual([sent.action, sent.reason], ["drop", "not_routable"]);
});

Deno.test("an echo request or a connection attempt from outside passes in no flow", () => {
  const client = clientOf(rulesOf(ANYWHERE));
  const ping: PacketSpec = { to: "192.0.2.1", protocol: "ICMP" };
  client.outbound(packet(ping), 0);
  assert.equal(client.inbound({ ...reply(ping), icmpType: 8 }, 0), undefined);
  const web: PacketSpec = { to: "192.0.2.1", flags: SYN };
  client.outbound(packet(web), 0);
  assert.equal(client.inbound(reply(web), 0), undefined, "SYN alone");
  assert.ok(client.inbound(reply({ ...web, flags: SYN_ACK }), 0));
});

Deno.test("ICMP of the far end that is no echo reply passes only as an error about a flow", () => {
  const client = clientOf(rulesOf(ANYWHERE));
  client.outbound(packet({ to: "192.0.2.1", protocol: "ICMP", id: 0 }), 0);
  for (const icmpType of [3, 5, 11, 13, 17]) {
    assert.equal(client.inbound(reply({ to: "192.0.2.1", protocol: "ICMP", icmpType }), 0), undefined);
  }
});

Deno.test("an ICMP error passes only when it quotes a packet of an allowed flow", () => {
  const client = clientOf(rulesOf(WEB));
  const sent: PacketSpec = { to: "192.0.2.1", sport: 50_000 };
  const flow = client.outbound(packet(sent), 0);
  client.outbound(packet({ to: "203.0.113.1" }), 0);
  assert.equal(client.inboundError(packet(sent), 0), flow);
  for (
    const forged of [
      { ...sent, to: "192.0.2.2" },
      { ...sent, sport: 50_001 },
      { ...sent, port: 80 },
      { ...sent, protocol: "UDP" },
      { ...sent, from: "10.100.0.11" },
      { ...sent, protocol: "ICMP" },
      { ...sent, offset: 1_480 },
      { to: "203.0.113.1" },
    ] as const
  ) assert.equal(client.inboundError(packet(forged), 0), undefined, JSON.stringify(forged));
  assert.equal(client.inboundError(reply(sent), 0), undefined, "the far end's own packet");
  assert.equal(flow.packetsIn, 0, "an error is no traffic of the flow");
});

Deno.test("ICMP errors keep no flow alive", () => {
  const client = clientOf(rulesOf(DNS));
  const query: PacketSpec = { to: "8.8.8.8", protocol: "UDP", port: 53 };
  client.outbound(packet(query), 0);
  for (let now = 0; now < 181_000; now += 1_000) client.inboundError(packet(query), now);
  assert.ok(client.takeExpired(181_000));
  assert.equal(client.inboundError(packet(query), 181_000), undefined);
});

Deno.test("a client's ICMP error passes only when it quotes what came to it in an allowed flow", () => {
  const client = clientOf(rulesOf(WEB));
  const sent: PacketSpec = { to: "192.0.2.1" };
  const flow = client.outbound(packet(sent), 0);
  assert.equal(client.outboundError(reply(sent), 0), flow);
  for (const forged of [{ ...sent, port: 80 }, { ...sent, to: "192.0.2.2" }, { to: "203.0.113.1" }]) {
    assert.equal(client.outboundError(reply(forged), 0), undefined);
  }
  assert.equal(client.outboundError(packet(sent), 0), undefined);
});

Deno.test("later fragments pass behind an allowed first one only", () => {
  const client = clientOf(rulesOf(DNS));
  const first: PacketSpec = { to: "8.8.8.8", protocol: "UDP", port: 53, more: true, fragment: 5 };
  const later: PacketSpec = { ...first, offset: 1_480, more: false };
  assert.deepEqual(
    [client.outbound(packet(later), 0).action, client.outbound(packet(later), 0).reason],
    ["drop", "fragment_without_first"],
  );
  const flow = client.outbound(packet(first), 0);
  assert.equal(client.outbound(packet(later), 0), flow);
  assert.equal(client.outbound(packet({ ...later, offset: 2_960 }), 0), flow);
  for (
    const neighbour of [
      { ...later, fragment: 6 },
      { ...later, to: "8.8.8.9" },
      { ...later, protocol: "TCP" },
      { ...later, from: "10.100.0.11" },
    ] as const
  ) {
    const refused = client.outbound(packet(neighbour), 0);
    assert.deepEqual([refused.action, refused.reason], ["drop", "fragment_without_first"]);
  }
  assert.equal(client.outbound(packet(later), 31_000).action, "drop", "too late");
});

Deno.test("a denied first fragment opens nothing, also where another first fragment of the same packet was allowed", () => {
  const client = clientOf(rulesOf(DNS));
  const denied: PacketSpec = { to: "8.8.8.8", protocol: "UDP", port: 54, more: true, fragment: 5 };
  assert.equal(client.outbound(packet(denied), 0).action, "drop");
  assert.equal(client.outbound(packet({ ...denied, offset: 1_480 }), 0).reason, "fragment_without_first");
  assert.equal(client.outbound(packet({ ...denied, port: 53 }), 0).action, "allow");
  assert.equal(client.outbound(packet(denied), 0).action, "drop");
});

Deno.test("fragments of an answer pass behind their first one, never before it", () => {
  const client = clientOf(rulesOf(DNS));
  const query: PacketSpec = { to: "8.8.8.8", protocol: "UDP", port: 53 };
  const answer = (more: Partial<PacketSpec>) => reply({ ...query, fragment: 77, ...more });
  const flow = client.outbound(packet(query), 0);
  assert.equal(client.inbound(answer({ offset: 1_480 }), 0), undefined);
  assert.equal(client.inbound(answer({ more: true }), 0), flow);
  assert.equal(client.inbound(answer({ offset: 1_480 }), 0), flow);
  assert.equal(client.inbound(answer({ offset: 1_480, fragment: 78 }), 0), undefined);
  assert.equal(client.inbound(answer({ offset: 2_960, more: true }), 20_000), flow);
  assert.equal(client.inbound(answer({ offset: 4_440 }), 30_001), undefined, "the first one's time counts");
  assert.equal(client.outbound(packet({ ...query, fragment: 77, offset: 1_480 }), 0).action, "drop");
});

Deno.test("a flood of stray fragments, scans and garbage leaves every allowed flow in place", () => {
  const client = clientOf(rulesOf(WEB), { capacityPerClient: 128 });
  const live = Array.from({ length: 100 }, (_, i): PacketSpec => ({ to: "192.0.2.1", sport: 1_000 + i }));
  const flows = live.map((spec) => client.outbound(packet(spec), 0));
  for (let i = 0; i < 20_000; i++) {
    const to = `203.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
    const spec: PacketSpec = i % 2 === 0 ? { to, offset: 8, fragment: i } : { to, port: i & 0xffff };
    assert.equal(client.outbound(packet(spec), 1).action, "drop");
    assert.ok(client.size <= 128);
  }
  live.forEach((spec, index) => assert.equal(client.inbound(reply(spec), 2), flows[index]));
});

Deno.test("a client full of allowed flows still gets its denials, and a flow more at the price of its idlest", () => {
  const client = clientOf(rulesOf(WEB), { capacityPerClient: 16 });
  const spec = (sport: number): PacketSpec => ({ to: "192.0.2.1", sport });
  for (let i = 0; i < 16; i++) client.outbound(packet(spec(i)), i);
  for (let i = 1; i < 16; i++) client.outbound(packet(spec(i)), 5_000);
  const denied = client.outbound(packet({ to: "203.0.113.1" }), 5_000);
  assert.deepEqual([denied.action, denied.isNew, denied.packetsOut], ["drop", true, 1]);
  assert.ok(client.inbound(reply(spec(0)), 5_000), "a denied flow pushes out no allowed one");
  client.outbound(packet(spec(99)), 9_000);
  assert.equal(client.size, 16);
  assert.equal(
    [...Array(16).keys()].filter((i) => client.inbound(reply(spec(i)), 9_000) === undefined).length,
    1,
  );
  assert.ok(client.inbound(reply(spec(99)), 9_000));
});

Deno.test("a revoked client's packets are dropped at once, both ways, and errors with them", () => {
  const client = clientOf(rulesOf(WEB));
  const spec: PacketSpec = { to: "192.0.2.1" };
  const flow = client.outbound(packet(spec), 0);
  flow.isNew = false;
  client.setRules(undefined);
  assert.equal(client.inbound(reply(spec), 0), undefined);
  assert.equal(client.inboundError(packet(spec), 0), undefined);
  const refused = client.outbound(packet(spec), 0);
  assert.deepEqual([refused.action, refused.reason, refused.isNew], ["drop", "no_rules", true]);
  assert.equal(client.outbound(packet({ to: "192.0.2.9" }), 0).action, "drop");
});

Deno.test("new rules: what stays allowed goes on as the same flow, what lost its right drops, what gained it passes", () => {
  const client = clientOf(rulesOf(WEB, DNS));
  const web: PacketSpec = { to: "192.0.2.1" };
  const dns: PacketSpec = { to: "8.8.8.8", protocol: "UDP", port: 53 };
  const ping: PacketSpec = { to: "192.0.2.1", protocol: "ICMP" };
  const [webFlow, dnsFlow, pingFlow] = [web, dns, ping].map((spec) => client.outbound(packet(spec), 0));
  for (const flow of [webFlow!, dnsFlow!, pingFlow!]) flow.isNew = false;
  client.setRules(rulesOf(PING, WEB.replace("id: web", "id: renamed")));
  assert.equal(client.inbound(reply(web), 1), webFlow, "no gap, not even for an answer");
  assert.equal(client.outbound(packet(web), 1), webFlow);
  assert.deepEqual([webFlow!.rule, webFlow!.isNew, webFlow!.packetsOut], ["renamed", false, 2]);
  assert.equal(client.inbound(reply(dns), 1), undefined);
  assert.deepEqual([client.outbound(packet(dns), 1).action, dnsFlow!.isNew], ["drop", true]);
  assert.equal(client.outbound(packet(ping), 1), pingFlow);
  assert.deepEqual([pingFlow!.action, pingFlow!.isNew], ["allow", true]);
});

Deno.test("a later fragment of a flow that lost its right is dropped", () => {
  const client = clientOf(rulesOf(DNS));
  const first: PacketSpec = { to: "8.8.8.8", protocol: "UDP", port: 53, more: true, fragment: 5 };
  client.outbound(packet(first), 0);
  client.setRules(rulesOf(WEB));
  assert.equal(client.outbound(packet({ ...first, offset: 1_480 }), 0).action, "drop");
});

const NAMES = '{id: names, type: fqdn, action: allow, destinations: ["*.google.com"]}';
const GOOGLE = {
  question: "www.google.com",
  addresses: [{ address: parseIp("142.250.0.1")!, ttl: 60 }],
};
const FROM_8888 = reply({ to: "8.8.8.8", protocol: "UDP", port: 53 });

Deno.test("an address is let through as soon as a DNS answer named it, and a flow goes on after the TTL", () => {
  const client = clientOf(rulesOf(NAMES));
  const spec: PacketSpec = { to: "142.250.0.1" };
  const flow = client.outbound(packet(spec), 0);
  assert.equal(flow.action, "drop");
  assert.equal(client.learn(GOOGLE, FROM_8888, 1_000), true);
  assert.equal(client.learn(GOOGLE, FROM_8888, 1_000), false, "nothing new");
  assert.equal(client.outbound(packet(spec), 1_000), flow);
  assert.deepEqual([flow.action, flow.name, flow.rule], ["allow", "www.google.com", "names"]);
  assert.deepEqual(client.learnedAddresses(2_000), [parseIp("142.250.0.1")]);
  client.setRules(rulesOf(DNS, NAMES));
  assert.equal(client.outbound(packet(spec), 100_000).action, "allow", "an old flow, judged again");
  assert.equal(client.outbound(packet({ ...spec, sport: 1 }), 100_000).action, "drop", "a new flow");
  client.setRules(rulesOf(NAMES.replace("google", "example")));
  assert.equal(client.outbound(packet(spec), 100_000).action, "drop", "the name lost its right");
  client.setRules(rulesOf(NAMES));
  assert.equal(client.outbound(packet(spec), 100_000).action, "drop", "a name once lost is not remembered");
});

Deno.test("a name that turns out to be denied ends the flows to its addresses", () => {
  const client = clientOf(rulesOf(NAMES.replace("allow", "deny"), ANYWHERE));
  const spec: PacketSpec = { to: "142.250.0.1" };
  assert.equal(client.outbound(packet(spec), 0).action, "allow");
  client.learn(GOOGLE, FROM_8888, 0);
  assert.equal(client.inbound(reply(spec), 0), undefined);
});

Deno.test("learned addresses are those that rules open, and those of flows that go on", () => {
  const client = clientOf(
    rulesOf(NAMES, NAMES.replace("id: names", "id: no").replace("allow", "deny").replace("google", "evil")),
  );
  const answer = (question: string, ...addresses: string[]) => ({
    question,
    addresses: addresses.map((text) => ({ address: parseIp(text)!, ttl: 60 })),
  });
  client.learn(
    answer("a.google.com", "142.250.0.1", "142.250.0.2", "10.100.0.20", "127.0.0.1", "fe80::1"),
    FROM_8888,
    0,
  );
  client.learn(answer("a.evil.com", "203.0.113.1"), FROM_8888, 0);
  const learned = (now: number) => client.learnedAddresses(now).map(formatIp);
  assert.deepEqual(learned(0), ["142.250.0.1", "142.250.0.2"]);
  client.outbound(packet({ to: "142.250.0.2" }), 0);
  client.outbound(packet({ to: "142.250.0.9" }), 0);
  assert.deepEqual(learned(100_000), ["142.250.0.2"], "its TTL is over, its flow is not");
  client.setRules(rulesOf(WEB));
  assert.deepEqual(learned(0), []);
});

Deno.test("where the policy names resolvers, no other server's answers are believed", () => {
  const snapshot = snapshotWithResolvers("[8.8.8.8, '2001:db8::53']");
  const client = clientOf(snapshot);
  const from = (to: string) => reply({ to, protocol: "UDP", port: 53 });
  for (const evil of ["8.8.8.9", "203.0.113.53", "::ffff:8.8.8.8", "2001:db8::54"]) {
    assert.equal(client.learn(GOOGLE, from(evil), 0), false, evil);
  }
  assert.equal(client.outbound(packet({ to: "142.250.0.1" }), 0).action, "drop");
  assert.equal(client.learn(GOOGLE, from("2001:db8::53"), 0), true);
  assert.equal(client.outbound(packet({ to: "142.250.0.1" }), 0).action, "allow");
});

const IDLE: [what: string, spec: PacketSpec, replies: boolean, idle: number][] = [
  ["TCP that was answered", { to: "192.0.2.1" }, true, 7_200_000],
  ["TCP without an answer", { to: "192.0.2.1" }, false, 240_000],
  ["UDP", { to: "192.0.2.1", protocol: "UDP" }, true, 180_000],
  ["an echo", { to: "192.0.2.1", protocol: "ICMP" }, true, 30_000],
  ["an IPv6 echo", { to: "2001:db8::1", protocol: "ICMPV6" }, true, 30_000],
  ["GRE", { to: "192.0.2.1", protocol: 47 }, true, 180_000],
  ["a denied flow", { to: "10.100.0.20" }, false, 30_000],
  ["a denied flow with a reset", { to: "10.100.0.20", flags: RST }, false, 30_000],
];

for (const [what, spec, replies, idle] of IDLE) {
  Deno.test(`${what} is forgotten after ${idle / 1_000} s, and no packet comes in after that`, () => {
    const client = clientOf(rulesOf(ANYWHERE));
    const flow = client.outbound(packet(spec), 0);
    if (replies) assert.equal(client.inbound(reply(spec), 0), flow);
    assert.equal(client.takeExpired(idle), undefined);
    assert.equal(client.takeExpired(idle + 1_000), flow);
    assert.equal(client.inbound(reply(spec), idle + 1_000), undefined);
    assert.equal(client.size, 0);
  });
}

Deno.test("a TCP flow is kept ten seconds after a reset or both FINs, and all its time after one FIN", () => {
  const spec: PacketSpec = { to: "192.0.2.1" };
  const ends: [what: string, end: (client: EgressClient) => void, idle: number][] = [
    ["reset by the client", (client) => client.outbound(packet({ ...spec, flags: RST }), 0), 10_000],
    ["reset by the far end", (client) => client.inbound(reply({ ...spec, flags: RST }), 0), 10_000],
    ["FIN of the client", (client) => client.outbound(packet({ ...spec, flags: FIN_ACK }), 0), 7_200_000],
    ["FIN of the far end", (client) => client.inbound(reply({ ...spec, flags: FIN_ACK }), 0), 7_200_000],
    ["both FINs", (client) => {
      client.outbound(packet({ ...spec, flags: FIN_ACK }), 0);
      client.inbound(reply({ ...spec, flags: FIN_ACK }), 0);
    }, 10_000],
    ["both FINs and a new connection from the same port", (client) => {
      client.outbound(packet({ ...spec, flags: FIN_ACK }), 0);
      client.inbound(reply({ ...spec, flags: FIN_ACK }), 0);
      client.outbound(packet({ ...spec, flags: SYN }), 0);
      client.inbound(reply({ ...spec, flags: SYN_ACK }), 0);
    }, 7_200_000],
  ];
  for (const [what, end, idle] of ends) {
    const client = clientOf(rulesOf(WEB));
    client.outbound(packet(spec), 0);
    client.inbound(reply(spec), 0);
    end(client);
    assert.equal(client.takeExpired(idle), undefined, what);
    assert.ok(client.takeExpired(idle + 1_000), what);
  }
});

Deno.test("flags of packets that may not pass change nothing", () => {
  const client = clientOf(rulesOf(WEB));
  const spec: PacketSpec = { to: "192.0.2.1" };
  client.outbound(packet(spec), 0);
  client.inbound(reply(spec), 0);
  client.inbound(reply({ ...spec, port: 444, flags: RST }), 0);
  client.inbound({ ...reply(spec), tcpFlags: RST, fragmentOffset: 8 }, 0);
  assert.equal(client.takeExpired(60_000), undefined);
});

Deno.test("addresses of peers: a flow is judged again when addresses change hands", () => {
  let holder = identity("agent/bob");
  const engine = new EgressEngine({
    capacityPerClient: 16,
    capacity: 16,
    identityAt: (...words) => {
      assert.deepEqual(words, [4, ...ipWords(parseIp("10.100.0.200")!)]);
      return holder;
    },
  });
  const rules = rulesOf("{id: bob, type: identity, action: allow, destinations: [agent/bob]}");
  const client = engine.client({ identity: "alice", rules });
  const spec: PacketSpec = { to: "10.100.0.200" };
  assert.equal(client.outbound(packet(spec), 0).action, "allow");
  assert.ok(client.inbound(reply(spec), 0));
  holder = identity("agent/mallory");
  engine.peersChanged();
  assert.equal(client.inbound(reply(spec), 0), undefined);
  assert.equal(client.outbound(packet(spec), 0).action, "drop");
});

Deno.test("an entry is new until its owner says otherwise, and counts what passes", () => {
  const client = clientOf(rulesOf(WEB));
  const spec: PacketSpec = { to: "192.0.2.1", length: 60 };
  const flow = client.outbound(packet(spec), 7);
  assert.ok(flow.isNew);
  assert.deepEqual([flow.source, flow.destination, flow.port, flow.protocol, flow.opened], [
    CLIENT4,
    "192.0.2.1",
    443,
    6,
    7,
  ]);
  flow.isNew = false;
  for (let i = 0; i < 3; i++) assert.equal(client.outbound(packet(spec), 8).isNew, false);
  client.inbound(reply({ ...spec, length: 1_500 }), 8);
  assert.deepEqual([flow.packetsOut, flow.bytesOut, flow.packetsIn, flow.bytesIn], [4, 240, 1, 1_500]);
});

function snapshotWithResolvers(resolvers: string): ClientRules {
  const text = `resolvers: ${resolvers}\nclients: {agent/alice: {rules: [${NAMES}]}}`;
  return compileText(text).rulesFor(identity("agent/alice"))!;
}

Deno.test("packets of a known flow allocate nothing, in either direction, fragments included", () => {
  const client = clientOf(rulesOf(ANYWHERE));
  const specs: PacketSpec[] = [
    { to: "192.0.2.1" },
    { to: "255.0.0.1" },
    { to: "2001:db8:ffff:ffff::1", protocol: "UDP" },
    { to: "192.0.2.1", protocol: "ICMP" },
    { to: "192.0.2.1", protocol: "UDP", more: true, fragment: 0xffff_ffff },
    { to: "192.0.2.1", protocol: "UDP", offset: 1_480, fragment: 0xffff_ffff },
    { to: "203.0.113.1", protocol: "UDP", offset: 1_480, fragment: 3 },
  ];
  const there = specs.map(packet);
  const back = specs.map(reply);
  const loops = 2_000;
  // A number that needs no box, so that only what is measured can allocate.
  let now = 1_000;
  const pass = () => {
    for (let i = 0; i < loops; i++) {
      // Time goes on, so that flows also move in their lists.
      now += 1;
      for (let n = 0; n < specs.length; n++) {
        client.outbound(there[n]!, now);
        client.inbound(back[n]!, now);
        client.inboundError(there[n]!, now);
      }
    }
  };
  const grown = () => {
    const before = Deno.memoryUsage().heapUsed;
    pass();
    return Deno.memoryUsage().heapUsed - before;
  };
  // A collection in between hides what was allocated, and compiling allocates: neither happens every time.
  for (let i = 0; i < 50; i++) pass();
  const growths = Array.from({ length: 9 }, grown).sort((a, b) => a - b);
  const perPacket = growths[4]! / (loops * specs.length * 3);
  assert.ok(perPacket < 0.5, `${perPacket} bytes per packet: ${growths}`);
});
