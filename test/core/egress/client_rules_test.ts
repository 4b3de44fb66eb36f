/**
 * What rules decide on a flow: each packet that a rule lets through stands beside neighbours that differ in one
 * field and must not pass.
 */

import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp, formatPrefix, ipFromWords, parseIp } from "../../../src/base/ip.ts";
import type { ClientRules } from "../../../src/core/egress/client_rules.ts";
import type { EgressIdentity } from "../../../src/core/egress/document.ts";
import { Flow, metaOf, type Verdict } from "../../../src/core/egress/flow.ts";
import { FqdnTable } from "../../../src/core/egress/fqdn_table.ts";
import { identity, packet, type PacketSpec, rulesOf } from "../../support/egress.ts";

const PEERS: Readonly<Record<string, EgressIdentity>> = {
  "10.100.0.20": identity("agent/bob", { attributes: ["nurses"] }),
  "10.100.0.21": identity("agent/carol"),
  "fd00:100::14": identity("agent/bob", { attributes: ["nurses"] }),
};

function judge(rules: ClientRules, spec: PacketSpec, { fqdn = new FqdnTable(), now = 0 } = {}): Verdict {
  const view = packet(spec);
  const flow = new Flow(view, { meta: metaOf(view), ports: view.srcPort << 16 | view.dstPort, now });
  return rules.judge(flow, {
    fqdn,
    now,
    peerAt: (...words) => PEERS[formatIp(ipFromWords(...words))],
    isOwnAddress: () => false,
  });
}

interface Row {
  readonly rule: string;
  readonly allow: PacketSpec;
  readonly deny: readonly PacketSpec[];
}

const cidr = (destinations: string, more = "") =>
  `{id: r, type: ip_cidr, action: allow, destinations: [${destinations}]${more}}`;

const TABLE: readonly Row[] = [
  {
    rule: cidr("8.8.8.8/32", ", protocol: udp, ports: [53]"),
    allow: { to: "8.8.8.8", protocol: "UDP", port: 53 },
    deny: [
      { to: "8.8.8.9", protocol: "UDP", port: 53 },
      { to: "8.8.8.7", protocol: "UDP", port: 53 },
      { to: "::ffff:8.8.8.8", protocol: "UDP", port: 53 },
      { to: "8.8.8.8", protocol: "UDP", port: 52 },
      { to: "8.8.8.8", protocol: "UDP", port: 54 },
      { to: "8.8.8.8", protocol: "UDP", port: 443, sport: 53 },
      { to: "8.8.8.8", protocol: "TCP", port: 53 },
      { to: "8.8.8.8", protocol: "ICMP", id: 53 },
      { to: "8.8.8.8", protocol: 132 },
    ],
  },
  {
    rule: cidr("192.0.2.0/25", ', ports: ["8000-8100", 443]'),
    allow: { to: "192.0.2.127", port: 8100 },
    deny: [
      { to: "192.0.2.128", port: 8100 },
      { to: "192.0.1.255", port: 8100 },
      { to: "192.0.2.127", port: 8101 },
      { to: "192.0.2.127", port: 7999 },
      { to: "192.0.2.127", port: 442 },
      { to: "192.0.2.127", protocol: "ICMP", id: 443 },
      { to: "192.0.2.127", protocol: 47 },
    ],
  },
  {
    rule: cidr('"2001:db8:1::/48"', ", protocol: icmpv6"),
    allow: { to: "2001:db8:1:ffff::1", protocol: "ICMPV6" },
    deny: [
      { to: "2001:db8:2::1", protocol: "ICMPV6" },
      { to: "2001:db8:0:ffff::1", protocol: "ICMPV6" },
      { to: "2001:db8:1::1", protocol: "TCP" },
      { to: "2001:db8:1::1", protocol: "ICMP" },
    ],
  },
  {
    rule: cidr("192.0.2.1", ", protocol: icmp"),
    allow: { to: "192.0.2.1", protocol: "ICMP" },
    deny: [{ to: "192.0.2.1", protocol: "ICMPV6" }, { to: "192.0.2.1", protocol: "UDP" }],
  },
  {
    rule: cidr("0.0.0.0/0"),
    allow: { to: "1.1.1.1" },
    deny: [
      ...["10.100.0.1", "10.100.0.0", "10.100.0.20", "10.100.0.99", "10.100.0.255"].map((to) => ({ to })),
      ...["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"].map((to) => ({ to })),
      { to: "2001:db8::1" },
      { to: "::ffff:1.1.1.1" },
    ],
  },
  {
    rule: cidr('"::/0"'),
    allow: { to: "2001:db8::1" },
    deny: [
      ...["fd00:100::1", "fd00:100::14", "fe80::1", "ff02::1", "::1", "::", "::ffff:1.1.1.1"].map((to) => ({
        to,
      })),
      { to: "64:ff9b::169.254.169.254" },
      { to: "1.1.1.1" },
    ],
  },
  {
    rule: "{id: r, type: default, action: allow}",
    allow: { to: "1.1.1.1" },
    deny: ["10.100.0.1", "10.100.0.20", "fd00:100::14", "127.0.0.1", "fe80::1"].map((to) => ({ to })),
  },
  {
    rule: cidr("10.0.0.0/8"),
    allow: { to: "10.100.1.0" },
    deny: [{ to: "10.100.0.20" }, { to: "10.100.0.1" }, { to: "11.0.0.0" }],
  },
  {
    rule: cidr("10.100.0.1/32", ", protocol: icmp"),
    allow: { to: "10.100.0.1", protocol: "ICMP" },
    deny: [
      { to: "10.100.0.1", protocol: "TCP" },
      { to: "10.100.0.0", protocol: "ICMP" },
      { to: "10.100.0.2", protocol: "ICMP" },
    ],
  },
  {
    rule: "{id: r, type: identity, action: allow, destinations: [agent/bob], protocol: tcp, ports: [22]}",
    allow: { to: "10.100.0.20", port: 22 },
    deny: [
      { to: "10.100.0.20", port: 23 },
      { to: "10.100.0.20", port: 22, protocol: "UDP" },
      { to: "10.100.0.21", port: 22 },
      { to: "10.100.0.22", port: 22 },
      { to: "10.100.0.1", port: 22 },
      { to: "1.1.1.1", port: 22 },
    ],
  },
  {
    rule: "{id: r, type: identity, action: allow, destinations: ['#nurses']}",
    allow: { to: "fd00:100::14" },
    deny: [{ to: "fd00:100::15" }, { to: "10.100.0.21" }, { to: "10.100.0.1" }],
  },
  {
    rule: "{id: r, type: identity, action: allow, destinations: ['#all']}",
    allow: { to: "10.100.0.21" },
    deny: [{ to: "10.100.0.1" }, { to: "10.100.0.22" }, { to: "8.8.8.8" }],
  },
];

for (const { rule, allow, deny } of TABLE) {
  Deno.test(`${rule} allows ${JSON.stringify(allow)} and none of its ${deny.length} neighbours`, () => {
    const rules = rulesOf(rule);
    assert.deepEqual(judge(rules, allow), { action: "allow", rule: "r", reason: "rule" });
    for (const neighbour of deny) {
      assert.equal(judge(rules, neighbour).action, "drop", JSON.stringify(neighbour));
    }
  });
}

Deno.test("nothing is allowed without a rule, by an empty list, or by a connector rule", () => {
  const connector =
    "{id: c, type: connector, action: allow, connector_id: hospital-a, destinations: ['emr.internal:443']}";
  for (const rules of [rulesOf(), rulesOf(connector)]) {
    for (const to of ["8.8.8.8", "10.100.0.20", "2001:db8::1"]) {
      assert.deepEqual(judge(rules, { to }), { action: "drop", rule: "", reason: "default_action" });
    }
  }
});

Deno.test("the first rule that matches decides, whatever follows", () => {
  const open = cidr("0.0.0.0/0").replace("id: r", "id: open");
  const closed = "{id: closed, type: ip_cidr, action: reject, destinations: [8.8.8.0/24]}";
  assert.equal(judge(rulesOf(closed, open), { to: "8.8.8.8" }).rule, "closed");
  assert.equal(judge(rulesOf(closed, open), { to: "8.8.8.8" }).action, "reject");
  assert.equal(judge(rulesOf(closed, open), { to: "8.8.9.8" }).rule, "open");
  assert.equal(judge(rulesOf(open, closed), { to: "8.8.8.8" }).rule, "open");
});

Deno.test("what is broad closes pools although it opens none", () => {
  const bob = "{id: bob, type: identity, action: allow, destinations: [agent/bob]}";
  const to = "10.100.0.20";
  assert.equal(judge(rulesOf(cidr("0.0.0.0/0"), bob), { to }).rule, "bob");
  for (const broad of ["type: default", "type: ip_cidr, destinations: [10.0.0.0/8]"]) {
    for (const action of ["deny", "reject"]) {
      const rules = rulesOf(`{id: no, action: ${action}, ${broad}}`, bob);
      assert.equal(judge(rules, { to }).rule, "no");
      assert.notEqual(judge(rules, { to }).action, "allow");
    }
  }
});

Deno.test("a rule of reject or drop answers for what is not routable no more than one of allow", () => {
  const rules = rulesOf("{id: r, type: default, action: reject}");
  assert.deepEqual(judge(rules, { to: "169.254.169.254" }), {
    action: "drop",
    rule: "",
    reason: "not_routable",
  });
  assert.equal(judge(rules, { to: "1.1.1.1" }).action, "reject");
});

Deno.test("an fqdn rule matches the addresses its names have now, and no neighbours", () => {
  const rules = rulesOf(
    '{id: r, type: fqdn, action: allow, destinations: ["*.google.com"], protocol: tcp, ports: [443]}',
  );
  const fqdn = new FqdnTable(["*.google.com", "other.net"]);
  const at = (text: string) => ({ address: parseIp(text)!, ttl: 60 });
  fqdn.learn({ question: "www.google.com", addresses: [at("142.250.0.1"), at("2a00:1450::1")] }, 0);
  fqdn.learn({ question: "other.net", addresses: [at("198.51.100.1")] }, 0);
  assert.equal(judge(rules, { to: "142.250.0.1" }, { fqdn, now: 59_000 }).rule, "r");
  assert.equal(judge(rules, { to: "2a00:1450::1" }, { fqdn }).rule, "r");
  for (
    const spec of [
      { to: "142.250.0.2" },
      { to: "198.51.100.1" },
      { to: "142.250.0.1", port: 80 },
      { to: "142.250.0.1", protocol: "UDP" },
      { to: "::ffff:142.250.0.1" },
    ] as const
  ) assert.equal(judge(rules, spec, { fqdn }).action, "drop", JSON.stringify(spec));
  assert.equal(judge(rules, { to: "142.250.0.1" }, { fqdn, now: 62_001 }).action, "drop", "the TTL is over");
});

Deno.test("an answer that gives a name a peer's, the gateway's or the host's own address opens none of them", () => {
  const rules = rulesOf('{id: r, type: fqdn, action: allow, destinations: ["*.evil.net"]}');
  const fqdn = new FqdnTable(["*.evil.net"]);
  const targets = [
    "10.100.0.20",
    "10.100.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "fd00:100::14",
    "::1",
    "fe80::1",
  ];
  const addresses = [...targets, "203.0.113.1"].map((text) => ({ address: parseIp(text)!, ttl: 60 }));
  fqdn.learn({ question: "rebind.evil.net", addresses }, 0);
  for (const to of targets) assert.equal(judge(rules, { to }, { fqdn }).action, "drop", to);
  assert.equal(judge(rules, { to: "203.0.113.1" }, { fqdn }).action, "allow");
});

Deno.test("routes() are the allow rules' prefixes, joined; pools only where a rule opens them", () => {
  const routes = (...rules: string[]) => rulesOf(...rules).routes().map(formatPrefix);
  assert.deepEqual(routes(), []);
  assert.deepEqual(routes(cidr('10.0.0.0/9, 10.128.0.0/9, 10.1.0.0/16, "fd01::/64", 8.8.8.8')), [
    "8.8.8.8/32",
    "10.0.0.0/8",
    "fd01::/64",
  ]);
  assert.deepEqual(routes(cidr("8.8.8.8").replace("allow", "deny")), []);
  assert.deepEqual(routes("{id: r, type: default, action: allow}"), ["0.0.0.0/0", "::/0"]);
  assert.deepEqual(routes("{id: r, type: identity, action: allow, destinations: ['#all']}"), [
    "10.100.0.0/24",
    "fd00:100::/64",
  ]);
  assert.deepEqual(routes("{id: r, type: fqdn, action: allow, destinations: [a.b]}"), []);
});

Deno.test("names are the patterns of all fqdn rules, each once", () => {
  const rules = rulesOf(
    "{id: a, type: fqdn, action: allow, destinations: [a.b, '*.c']}",
    "{id: b, type: fqdn, action: deny, destinations: ['*.c', d.e]}",
  );
  assert.deepEqual(rules.names, ["a.b", "*.c", "d.e"]);
});

Deno.test("compiled rules decide as a naive reading of the same list does", () => {
  const octet = fc.integer({ min: 0, max: 3 });
  const aRule = fc.record({
    action: fc.constantFrom("allow", "deny", "reject"),
    net: octet,
    length: fc.constantFrom(8, 30, 32),
    protocol: fc.constantFrom("any", "tcp", "udp"),
    ports: fc.option(fc.tuple(octet, octet).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const)),
  });
  const aPacket = fc.record({ host: octet, protocol: fc.constantFrom("TCP", "UDP", "ICMP"), port: octet });
  fc.assert(
    fc.property(fc.array(aRule, { maxLength: 6 }), fc.array(aPacket, { maxLength: 8 }), (list, packets) => {
      const rules = rulesOf(...list.map(({ action, net, length, protocol, ports }, index) => {
        const prefix = length === 32
          ? `198.51.100.${net}/32`
          : length === 30
          ? "198.51.100.0/30"
          : "198.0.0.0/8";
        const wanted = ports === null ? "" : `, ports: ["${ports[0]}-${ports[1]}"]`;
        return `{id: r${index}, type: ip_cidr, action: ${action}, destinations: [${prefix}], protocol: ${protocol}${wanted}}`;
      }));
      for (const { host, protocol, port } of packets) {
        const index = list.findIndex((rule) =>
          (rule.length !== 32 || rule.net === host) &&
          (rule.protocol === "any" || rule.protocol.toUpperCase() === protocol) &&
          (rule.ports === null || (protocol !== "ICMP" && rule.ports[0] <= port && port <= rule.ports[1]))
        );
        const verdict = judge(rules, { to: `198.51.100.${host}`, protocol, port, id: port } as PacketSpec);
        assert.equal(verdict.rule, index < 0 ? "" : `r${index}`);
        assert.equal(verdict.action, index < 0 ? "drop" : list[index]!.action.replace("deny", "drop"));
      }
    }),
  );
});
