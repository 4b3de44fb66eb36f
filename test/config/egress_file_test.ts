/** Egress policy files: zgate's verbatim, joining, and errors that name file, line and column. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { formatPrefix } from "../../src/base/ip.ts";
import { ConfigError } from "../../src/config/errors.ts";
import { loadEgress, parseEgress } from "../../src/config/egress_file.ts";
import type { EgressRule } from "../../src/core/egress/document.ts";
import { EgressEngine } from "../../src/core/egress/engine.ts";
import { compileText, identity, packet } from "../support/egress.ts";

const ZGATE = `version: "1.0"
metadata:
  name: "masque-ztna-policy"
  description: "Zero-trust policy for MASQUE relay"
  created_at: "2026-01-03T00:00:00Z"
default_action: deny
clients:
  client-1:
    description: "Medical Institution A - Restricted Access"
    rules:
      - id: "allow-dns"
        type: ip_cidr
        action: allow
        destinations:
          - 8.8.8.8/32
          - 1.1.1.1/32
        metadata:
          reason: "DNS resolution"
          category: "infrastructure"
      - { id: "names", type: fqdn, action: allow, destinations: ["*.google.com"] }
      - id: hospital
        type: connector
        action: allow
        connector_id: hospital-a
        destinations: ["postgres.internal:5432", "emr.internal:443"]
      - { id: "deny-default", type: default, action: deny }
  client-2:
    description: "Full access"
    rules:
      - { id: allow-all, type: ip_cidr, action: allow, destinations: [0.0.0.0/0], metadata: { reason: "testing" } }
`;

function problemsOf(...files: [file: string, text: string][]): string[] {
  try {
    parseEgress(files.map(([file, text]) => ({ file, text })));
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.code, "ERR_POLICY");
    return error.message.split("\n");
  }
  assert.fail("expected a ConfigError");
}

function ruleOf(fields: string): EgressRule {
  return parseEgress([{ file: "e.yaml", text: `clients: {a: {rules: [{id: r, action: allow, ${fields}}]}}` }])
    .clients[0]!.rules[0]!;
}

Deno.test("zgate's policy loads verbatim and decides as it says", () => {
  const document = parseEgress([{ file: "policy.yaml", text: ZGATE }]);
  assert.deepEqual([document.name, document.defaultAction, document.resolvers], [
    "masque-ztna-policy",
    "drop",
    null,
  ]);
  assert.deepEqual(document.clients.map(({ client, rules }) => [client, rules.map(({ id }) => id)]), [
    ["client-1", ["allow-dns", "names", "hospital", "deny-default"]],
    ["client-2", ["allow-all"]],
  ]);
  const snapshot = compileText(ZGATE);
  assert.deepEqual(snapshot.warnings, []);
  const decide = (path: string, to: string) => {
    const rules = snapshot.rulesFor(identity(path));
    if (rules === undefined) return "no tunnel";
    const { action, rule } = new EgressEngine({ capacityPerClient: 16, capacity: 16 })
      .client({ identity: path, rules }).outbound(packet({ to, protocol: "ICMP" }), 0);
    return `${action} ${rule}`;
  };
  assert.equal(decide("agent/client-1", "8.8.8.8"), "allow allow-dns");
  assert.equal(decide("agent/client-1", "1.1.1.1"), "allow allow-dns");
  assert.equal(decide("agent/client-1", "8.8.4.4"), "drop deny-default");
  assert.equal(decide("agent/client-2", "8.8.4.4"), "allow allow-all");
  assert.equal(decide("agent/client-2", "10.100.0.2"), "drop ");
  assert.equal(decide("agent/client-3", "8.8.8.8"), "no tunnel");
});

Deno.test("what a rule may leave out, and the words of action, protocol and ports", () => {
  const common = { id: "r", action: "allow", protocols: null, ports: null, metadata: {} };
  assert.deepEqual(ruleOf("type: default"), { ...common, type: "default", destinations: [] });
  const rule = ruleOf(
    'type: default, protocols: [tcp, udp], ports: [443, "53", "8000-8100"], metadata: {a: [1]}',
  );
  assert.deepEqual([rule.protocols, rule.ports, rule.metadata], [
    [6, 17],
    [{ first: 443, last: 443 }, { first: 53, last: 53 }, { first: 8_000, last: 8_100 }],
    { a: [1] },
  ]);
  for (
    const [word, number] of [["icmp", 1], ["icmpv6", 58], ["47", 47], ["'47'", 47], ["0", 0], ["255", 255]]
  ) {
    assert.deepEqual(ruleOf(`type: default, protocol: ${word}`).protocols, [number]);
  }
  for (const any of ["protocol: any", "protocols: [tcp, any]"]) {
    assert.equal(ruleOf(`type: default, ${any}`).protocols, null);
  }
  for (
    const [word, action] of [["deny", "drop"], ["drop", "drop"], ["reject", "reject"], ["allow", "allow"]]
  ) {
    const text = `clients: {a: {rules: [{id: r, type: default, action: ${word}}]}}`;
    assert.equal(parseEgress([{ file: "e.yaml", text }]).clients[0]!.rules[0]!.action, action);
  }
});

Deno.test("destinations become addresses and plain names", () => {
  const { destinations } = ruleOf('type: ip_cidr, destinations: [10.0.0.0/8, 192.0.2.7, "fd00::/8", "::/0"]');
  assert.deepEqual(destinations.map((prefix) => typeof prefix === "string" ? prefix : formatPrefix(prefix)), [
    "10.0.0.0/8",
    "192.0.2.7/32",
    "fd00::/8",
    "::/0",
  ]);
  assert.deepEqual(
    ruleOf('type: fqdn, destinations: [WWW.Example.com., "*.xn--bcher-kva.example", localhost]').destinations,
    [
      "www.example.com",
      "*.xn--bcher-kva.example",
      "localhost",
    ],
  );
  const words = ["bob", "agent/bob", "spiffe://d/agent/bob", "#nurses", "#all"];
  assert.deepEqual(ruleOf(`type: identity, destinations: ${JSON.stringify(words)}`).destinations, words);
});

Deno.test("files are joined: clients in order, one name, resolvers together; no file grants nothing", () => {
  const joined = parseEgress([
    { file: "a.yaml", text: "clients: {a: {rules: []}}\nresolvers: [8.8.8.8, 1.1.1.1]\n" },
    {
      file: "b.json",
      text: '{"metadata":{"name":"b"},"default_action":"reject","clients":{"#all":{"rules":[]}}}',
    },
    {
      file: "c.yaml",
      text: "clients: {}\ndefault_action: reject\nresolvers: [8.8.8.8]\nmetadata: {name: c}\n",
    },
  ]);
  assert.deepEqual(joined.clients.map(({ client }) => client), ["a", "#all"]);
  assert.deepEqual([joined.name, joined.defaultAction, joined.resolvers?.length], ["b", "reject", 2]);
  assert.deepEqual(parseEgress([]), { name: "", defaultAction: "drop", resolvers: null, clients: [] });
});

Deno.test("a client given twice and defaults that contradict name both places", () => {
  assert.deepEqual(
    problemsOf(
      ["a.yaml", "default_action: deny\nclients:\n  alice: {rules: []}\n"],
      ["b.yaml", "clients:\n  alice: {rules: []}\ndefault_action: allow\n"],
    ),
    [
      'b.yaml:3:17: default_action = "allow": contradicts another file\'s default_action, first at a.yaml:1:17',
      "b.yaml:2:10: clients.alice = {…}: this client is given twice, first at a.yaml:3:10",
    ],
  );
});

const rule = (fields: string) => `clients: {a: {rules: [{id: r, ${fields}}]}}`;
const AT = "e.yaml:1";
const TABLE: [what: string, text: string, ...lines: string[]][] = [
  ["an empty file", "", `${AT}:1: not YAML: the file is empty`],
  [
    "a client given twice in one file",
    "clients: {a: {rules: []}, a: {rules: []}}",
    `${AT}:27: not YAML: this field is given twice`,
  ],
  ["no clients", "version: '1.0'", `${AT}:1: clients: is missing`],
  [
    "another version",
    "version: '2.0'\nclients: {}",
    `${AT}:10: version = "2.0": expected 1.0 or 1; did you mean 1.0?`,
  ],
  [
    "a slip in a rule's field",
    rule("type: default, action: allow, port: [443]"),
    `${AT}:61: clients.a.rules[0].port = […]: unknown field; did you mean ports?`,
  ],
  [
    "a slip in a client's field",
    "clients: {a: {rulez: []}}",
    `${AT}:14: clients.a.rules: is missing`,
    `${AT}:15: clients.a.rulez = […]: unknown field; did you mean rules?`,
  ],
  [
    "an unknown action",
    rule("type: default, action: alow"),
    `${AT}:54: clients.a.rules[0].action = "alow": expected allow, deny, drop or reject; did you mean allow?`,
  ],
  [
    "an unknown type",
    rule("type: cidr, action: allow"),
    `${AT}:37: clients.a.rules[0].type = "cidr": expected ip_cidr, fqdn, identity, connector or default`,
  ],
  [
    "host bits in a prefix",
    rule("type: ip_cidr, action: allow, destinations: [10.0.0.5/8]"),
    `${AT}:76: clients.a.rules[0].destinations[0] = "10.0.0.5/8": has bits set beyond its length: write 10.0.0.0/8 or 10.0.0.5/32`,
  ],
  [
    "what is no address",
    rule("type: ip_cidr, action: allow, destinations: [10.0.0.0/33, 1.2.3, example.com]"),
    `${AT}:76: clients.a.rules[0].destinations[0] = "10.0.0.0/33": not an address or prefix: write 192.0.2.7, 10.0.0.0/8 or fd00::/8`,
    `${AT}:89: clients.a.rules[0].destinations[1] = "1.2.3": not an address or prefix: write 192.0.2.7, 10.0.0.0/8 or fd00::/8`,
    `${AT}:96: clients.a.rules[0].destinations[2] = "example.com": not an address or prefix: write 192.0.2.7, 10.0.0.0/8 or fd00::/8`,
  ],
  [
    "an IPv4-mapped address",
    rule("type: ip_cidr, action: allow, destinations: ['::ffff:10.0.0.1']"),
    `${AT}:76: clients.a.rules[0].destinations[0] = "::ffff:10.0.0.1": an IPv4 address in IPv6 form, which packets do not have: write it as IPv4`,
  ],
  [
    "what is no name",
    rule("type: fqdn, action: allow, destinations: ['*', 'a.*.b', 10.0.0.1, a..b]"),
    ...[[73, "*"], [78, "a.*.b"], [87, "10.0.0.1"], [97, "a..b"]].map(([column, name], index) =>
      `${AT}:${column}: clients.a.rules[0].destinations[${index}] = "${name}": not a name: write example.com or *.example.com (international names in their xn-- form)`
    ),
  ],
  [
    "what is no identity",
    rule("type: identity, action: allow, destinations: [relay/r]"),
    `${AT}:77: clients.a.rules[0].destinations[0] = "relay/r": not an identity: write NAME, agent/NAME, a SPIFFE ID, #attribute or #all`,
  ],
  [
    "an attribute left unquoted, which YAML reads as a comment",
    "clients:\n  a:\n    rules:\n      - id: r\n        type: identity\n        action: allow\n        destinations:\n          - #all\n",
    'e.yaml:8:13: clients.a.rules[0].destinations[0] = null: is empty: put "#…" in quotes, since YAML takes a bare # for a comment',
  ],
  [
    "a rule without destinations",
    rule("type: ip_cidr, action: allow"),
    `${AT}:23: clients.a.rules[0].destinations: a rule of type ip_cidr needs at least one`,
  ],
  [
    "a default rule with destinations",
    rule("type: default, action: allow, destinations: [10.0.0.0/8]"),
    `${AT}:75: clients.a.rules[0].destinations = […]: a default rule matches every destination: leave this out, or choose another type`,
  ],
  [
    "ports of a protocol without",
    rule("type: default, action: allow, protocol: icmp, ports: [443]"),
    `${AT}:84: clients.a.rules[0].ports = […]: only tcp and udp have ports`,
  ],
  [
    "what are no ports",
    rule("type: default, action: allow, ports: [70000, 9-8, 80-, http, -1, 1-2-3]"),
    ...[[69, "70000"], [76, '"9-8"'], [81, '"80-"'], [86, '"http"'], [92, "-1"], [96, '"1-2-3"']].map(
      ([column, port], index) =>
        `${AT}:${column}: clients.a.rules[0].ports[${index}] = ${port}: not a port: write 443, or a range such as "8000-8100"`,
    ),
  ],
  [
    "what is no protocol",
    rule("type: default, action: allow, protocol: 256"),
    `${AT}:71: clients.a.rules[0].protocol = 256: not a protocol: write tcp, udp, icmp, icmpv6, any or a number from 0 to 255`,
  ],
  [
    "protocol and protocols",
    rule("type: default, action: allow, protocol: tcp, protocols: [udp]"),
    `${AT}:87: clients.a.rules[0].protocols = […]: give protocol or protocols, not both`,
  ],
  [
    "an id given twice",
    "clients: {a: {rules: [{id: r, type: default, action: deny}, {id: r, type: default, action: deny}]}}",
    `${AT}:66: clients.a.rules[1].id = "r": given twice: entry [0] has the same id`,
  ],
  [
    "a connector rule without its connector, and a target without a port",
    rule("type: connector, action: allow, destinations: [emr.internal]"),
    `${AT}:23: clients.a.rules[0].connector_id: is missing`,
    `${AT}:78: clients.a.rules[0].destinations[0] = "emr.internal": not a target: write host:port`,
  ],
  [
    "a client that is none",
    "clients: {relay/r: {rules: []}}",
    `${AT}:20: clients."relay/r" = {…}: not a client: write NAME, agent/NAME, a SPIFFE ID, #attribute or #all`,
  ],
  [
    "a resolver by name",
    "resolvers: [dns.google]\nclients: {}",
    `${AT}:13: resolvers[0] = "dns.google": not an IP address`,
  ],
];

for (const [what, text, ...lines] of TABLE) {
  Deno.test(`refused: ${what}`, () => assert.deepEqual(problemsOf(["e.yaml", text]), lines));
}

Deno.test("names that objects are born with are ordinary clients or refused, never lost", () => {
  for (const name of ["constructor", "toString", "hasOwnProperty"]) {
    const { clients } = parseEgress([{ file: "e.yaml", text: `clients: {${name}: {rules: []}}` }]);
    assert.deepEqual(clients.map(({ client }) => client), [name]);
  }
});

Deno.test("every problem of every file is reported, also of one that is not there", async () => {
  await assert.rejects(loadEgress(["/nowhere/a.yaml", "/nowhere/b.yaml"]), (error) => {
    assert.ok(error instanceof ConfigError);
    assert.equal(error.message, "/nowhere/a.yaml: no such file\n/nowhere/b.yaml: no such file");
    return true;
  });
});

Deno.test("config/egress.yaml loads and grants what its comments say", async () => {
  const file = fileURLToPath(new URL("../../config/egress.yaml", import.meta.url));
  const document = await loadEgress([file]);
  assert.deepEqual(document.clients.map(({ client }) => client), ["agent/alice", "#administrators", "#all"]);
  const snapshot = compileText(await Deno.readTextFile(file));
  assert.deepEqual(snapshot.warnings, []);
  const rulesOf = (path: string, attributes: string[] = []) => {
    const rules = snapshot.rulesFor(identity(path, { attributes }));
    const client = new EgressEngine({ capacityPerClient: 99, capacity: 99 }).client({
      identity: path,
      rules,
    });
    return (to: string, port: number) => client.outbound(packet({ to, port }), 0).rule;
  };
  assert.equal(rulesOf("agent/alice")("192.0.2.9", 443), "office");
  assert.equal(rulesOf("agent/bob")("192.0.2.9", 443), "");
  assert.equal(rulesOf("agent/bob")("8.8.8.8", 53), "name-servers");
  assert.equal(rulesOf("agent/carol", ["administrators"])("203.0.113.1", 443), "anywhere");
  assert.equal(rulesOf("agent/carol", ["administrators"])("203.0.113.1", 22), "no-ssh");
});
