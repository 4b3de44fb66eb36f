/** Config files: defaults, and one clear line for every mistake with file, place, field and value. */

import assert from "node:assert/strict";
import { formatPrefix } from "../../src/base/ip.ts";
import { DEFAULT_RELAY_LIMITS } from "../../src/core/limits.ts";
import { ConfigError } from "../../src/config/errors.ts";
import { loadConfig, parseConfig } from "../../src/config/parse_config.ts";
import type { AgentConfig } from "../../src/config/schema/agent.ts";
import type { RelayConfig } from "../../src/config/schema/relay.ts";
import { AGENT, CONNECTOR, parse, problemsOf, RELAY } from "./config_cases.ts";

Deno.test("a minimal relay config gets every default and absolute paths", () => {
  assert.deepEqual(parse(RELAY), {
    mode: "relay",
    identity: "/etc/ginnel/r.json",
    name: "relay-1",
    data: "/etc/ginnel/relay-data",
    listen: { quic: { hostname: "0.0.0.0", port: 4433 }, tls: { hostname: "0.0.0.0", port: 4433 } },
    policy: ["/etc/ginnel/policy.yaml", "/abs/more.yaml"],
    authority: { key: "/etc/ginnel/ca/authority.key", viewTtl: 3_600_000 },
    health: { kind: "tcp", hostname: "0.0.0.0", port: 8080 },
    limits: DEFAULT_RELAY_LIMITS,
    log: { level: "info" },
    audit: {},
    drainSeconds: 30,
  });
});

Deno.test("a minimal connector config gets every default, and no listener", () => {
  assert.deepEqual(parse(CONNECTOR), {
    mode: "connector",
    identity: "/etc/ginnel/c.json",
    relays: [{ name: "relay-1", address: { hostname: "relay.example", port: 4433 } }],
    services: [{ name: "web", upstream: { kind: "tcp", hostname: "127.0.0.1", port: 80 }, maxFlows: 1024 }],
    carrier: "auto",
    health: null,
    log: { level: "info" },
  });
});

Deno.test("a minimal agent config gets every default", () => {
  assert.deepEqual(parse(AGENT), {
    mode: "agent",
    identity: "/etc/a.json",
    relays: [{ name: "relay-1", address: { hostname: "2001:db8::1", port: 4433 } }],
    forwards: [],
    socks5: { hostname: "127.0.0.1", port: 1080 },
    allowRemoteClients: false,
    carrier: "auto",
    health: null,
    log: { level: "info" },
  });
});

Deno.test("given values replace the defaults", () => {
  const config = parse({
    ...RELAY,
    listen: { quic: "[::]:0", tls: null },
    health: null,
    limits: { maxConnections: 7, idleTimeout: "2m" },
    audit: { file: "audit.jsonl" },
    log: { level: "debug" },
    drainSeconds: 0,
  }) as Record<string, unknown>;
  assert.deepEqual(config.listen, { quic: { hostname: "::", port: 0 }, tls: null });
  assert.equal(config.health, null);
  assert.deepEqual(config.limits, { ...DEFAULT_RELAY_LIMITS, maxConnections: 7, idleTimeout: 120_000 });
  assert.deepEqual(config.audit, { file: "/etc/ginnel/audit.jsonl" });
  assert.equal(config.drainSeconds, 0);
});

Deno.test("durations are read in every unit", () => {
  const interval = (text: string) => {
    const healthCheck = { kind: "tcp", interval: text };
    const config = parse({ ...CONNECTOR, services: [{ ...CONNECTOR.services[0], healthCheck }] });
    return (config as { services: { healthCheck: { interval: number } }[] }).services[0]!.healthCheck
      .interval;
  };
  assert.deepEqual(["1500ms", "30s", "5m", "1h"].map(interval), [1_500, 30_000, 300_000, 3_600_000]);
});

Deno.test("the config is frozen all through", () => {
  const config = parse(AGENT) as { relays: { address: object }[] };
  for (const part of [config, config.relays, config.relays[0], config.relays[0]!.address]) {
    assert.ok(Object.isFrozen(part));
  }
});

const SERVICE = CONNECTOR.services[0];
const TABLE: [what: string, config: unknown, ...lines: string[]][] = [
  ["not an object", [1], "expected an object, { … }"],
  ["null", null, "expected an object, { … }"],
  ["no mode", {}, "mode: is missing: write relay, connector, agent or controller"],
  [
    "a slip in the mode",
    { mode: "agnet" },
    'mode = "agnet": expected relay, connector, agent or controller; did you mean agent?',
  ],
  ["a mode that is not text", { mode: 7 }, "mode = 7: expected relay, connector, agent or controller"],
  [
    "a mode from Object.prototype",
    { mode: "constructor" },
    'mode = "constructor": expected relay, connector, agent or controller',
  ],
  [
    "a wrong type",
    { ...AGENT, identity: 7 },
    "identity = 7: expected the path of an identity file, or { certificate, key, network }",
  ],
  ["a list for an object", { ...RELAY, listen: [] }, "listen = […]: expected an object, found a list"],
  ["null where there is no off", { ...AGENT, socks5: null }, "socks5 = null: expected a string, found null"],
  [
    "text for a flag",
    { ...AGENT, allowRemoteClients: "yes" },
    'allowRemoteClients = "yes": expected true or false, found a string',
  ],
  ["a missing field", { ...AGENT, relays: [{ name: "r" }] }, "relays[0].address: is missing"],
  ["an unknown field", { ...AGENT, carier: "tls" }, 'carier = "tls": unknown field; did you mean carrier?'],
  [
    "an unknown field far from any other",
    { ...AGENT, relays: [{ ...AGENT.relays[0], weight: 1 }] },
    "relays[0].weight = 1: unknown field; known here: name, address",
  ],
  [
    "a field of another mode",
    { ...CONNECTOR, drainSeconds: 3 },
    "drainSeconds = 3: unknown field; known here: mode, identity, relays, services, hosting, carrier, control, health, log",
  ],
  [
    "a bad duration",
    { ...RELAY, authority: { key: "k", viewTtl: "1 hour" } },
    'authority.viewTtl = "1 hour": not a duration: write a whole number and a unit, such as 250ms, 30s, 5m, 1h or 7d',
  ],
  [
    "a duration without a unit",
    { ...RELAY, limits: { idleTimeout: 300 } },
    "limits.idleTimeout = 300: expected a string, found a number",
  ],
  [
    "a negative duration",
    { ...RELAY, limits: { idleTimeout: "-5s" } },
    'limits.idleTimeout = "-5s": not a duration: write a whole number and a unit, such as 250ms, 30s, 5m, 1h or 7d',
  ],
  [
    "a duration out of range",
    { ...RELAY, limits: { idleTimeout: "1s" } },
    'limits.idleTimeout = "1s": must be from 15s to 1h',
  ],
  [
    "an address without a port",
    { ...RELAY, listen: { quic: "0.0.0.0" } },
    'listen.quic = "0.0.0.0": not an address: write host:port or [ipv6]:port',
  ],
  [
    "a port out of range",
    { ...AGENT, socks5: "127.0.0.1:70000" },
    'socks5 = "127.0.0.1:70000": not an address: write host:port or [ipv6]:port',
  ],
  [
    "a relay at port 0",
    { ...AGENT, relays: [{ name: "r", address: "h:0" }] },
    'relays[0].address = "h:0": port 0 cannot be dialled',
  ],
  [
    "a relay name that is none",
    { ...AGENT, relays: [{ name: "R.1", address: "h:1" }] },
    'relays[0].name = "R.1": not a server\'s name: lower-case letters, digits and inner dashes, as given when its identity was made',
  ],
  [
    "a relay named twice",
    { ...AGENT, relays: [AGENT.relays[0], { name: "relay-1", address: "h:1" }] },
    'relays[1].name = "relay-1": given twice: entry [0] has the same name',
  ],
  ["no policy file", { ...RELAY, policy: [] }, "policy = […]: name at least one policy file"],
  ["a path that is empty", { ...RELAY, identity: "" }, 'identity = "": must not be empty'],
  [
    "a count below its least",
    { ...RELAY, limits: { maxConnections: 0 } },
    "limits.maxConnections = 0: must be at least 1",
  ],
  ["a count above its most", { ...RELAY, drainSeconds: 3601 }, "drainSeconds = 3601: must be at most 3600"],
  ["a count with a fraction", { ...RELAY, drainSeconds: 0.5 }, "drainSeconds = 0.5: expected a whole number"],
  [
    "an unknown level",
    { ...AGENT, log: { level: "warning" } },
    'log.level = "warning": expected trace, debug, info, warn or error',
  ],
  [
    "no service",
    { ...CONNECTOR, services: [] },
    "services = […]: offer at least one service, or give hosting",
  ],
  [
    "a service offered twice",
    { ...CONNECTOR, services: [SERVICE, { ...SERVICE, upstream: "unix:/x" }] },
    'services[1].name = "web": given twice: entry [0] has the same name',
  ],
  [
    "a service name that is none",
    { ...CONNECTOR, services: [{ ...SERVICE, name: "Web" }] },
    'services[0].name = "Web": not a service name: use lower-case letters, digits, - and _, in parts of at most 63 joined by dots',
  ],
  [
    "an upstream of another kind",
    { ...CONNECTOR, services: [{ ...SERVICE, upstream: "http://x/" }] },
    'services[0].upstream = "http://x/": not an upstream: write tcp://host:port, udp://host:port or unix:/absolute/path',
  ],
  [
    "an upstream by relative path",
    { ...CONNECTOR, services: [{ ...SERVICE, upstream: "unix:x" }] },
    'services[0].upstream = "unix:x": not an upstream: write tcp://host:port, udp://host:port or unix:/absolute/path',
  ],
  [
    "an upstream of datagrams on port 0",
    { ...CONNECTOR, services: [{ ...SERVICE, upstream: "udp://x:0" }] },
    'services[0].upstream = "udp://x:0": port 0 cannot be dialled',
  ],
  [
    "a check of an upstream of datagrams",
    { ...CONNECTOR, services: [{ ...SERVICE, upstream: "udp://x:1", healthCheck: { kind: "tcp" } }] },
    "services[0].healthCheck = {…}: a udp upstream cannot be checked",
  ],
  [
    "hosting everywhere",
    { ...CONNECTOR, hosting: { allow: ["*"] } },
    'hosting.allow[0] = "*": not a destination: write 10.0.0.0/8, db.example, *.example or [::1], with :PORT or :LOW-HIGH where only those ports are meant',
  ],
  [
    "a path for a TCP check",
    { ...CONNECTOR, services: [{ ...SERVICE, healthCheck: { kind: "tcp", path: "/" } }] },
    'services[0].healthCheck.path = "/": only for kind http',
  ],
  [
    "a TCP port on a connector",
    { ...CONNECTOR, health: "127.0.0.1:8080" },
    'health = "127.0.0.1:8080": not a unix socket: write unix:/absolute/path',
  ],
  [
    "listeners that are not loopback",
    {
      ...AGENT,
      socks5: "0.0.0.0:1080",
      httpProxy: "[::]:8118",
      forwards: [{ listen: "192.168.1.1:1", service: "web" }],
      health: "10.0.0.1:1",
    },
    'socks5 = "0.0.0.0:1080": not a loopback address: listen on 127.0.0.1 or [::1], or set allowRemoteClients to true',
    'httpProxy = "[::]:8118": not a loopback address: listen on 127.0.0.1 or [::1], or set allowRemoteClients to true',
    'forwards[0].listen = "192.168.1.1:1": not a loopback address: listen on 127.0.0.1 or [::1], or set allowRemoteClients to true',
    'health = "10.0.0.1:1": not a loopback address: listen on 127.0.0.1 or [::1], or set allowRemoteClients to true',
  ],
  [
    "two forwards on one address",
    {
      ...AGENT,
      forwards: [{ listen: "127.0.0.1:1", service: "a" }, { listen: "127.0.0.1:1", service: "b" }],
    },
    'forwards[1].listen = "127.0.0.1:1": given twice: entry [0] has the same listen',
  ],
  [
    "a tunnel to a relay that is not named",
    { ...AGENT, tunnel: { relay: "elsewhere" } },
    'tunnel.relay = "elsewhere": is none of the relays',
  ],
  [
    "tunnel settings that are none",
    {
      ...AGENT,
      tunnel: { interface: "../eth0", routes: ["10.0.0.0/33"], dns: ["ns.example"], dialect: "own" },
    },
    'tunnel.interface = "../eth0": not an interface name: up to 15 of a-z 0-9 _ . -, a letter first',
    "tunnel.routes = […]: expected advertised, full, or a list of prefixes such as 10.0.0.0/8",
    'tunnel.dns[0] = "ns.example": not an IP address',
    'tunnel.dialect = "own": expected rfc9484 or zgate',
  ],
  [
    "pools that are none",
    { ...RELAY, tunnel: { policy: ["egress.yaml"], ipv4: "10.100.0.0/31", ipv6: "10.0.0.0/8" } },
    'tunnel.ipv4 = "10.100.0.0/31": too small: at most /30',
    'tunnel.ipv6 = "10.0.0.0/8": not an IPv6 prefix',
  ],
  [
    "pools of services within those of tunnels",
    {
      ...RELAY,
      services: { ipv6: "fd00:1::/64" },
      tunnel: { policy: ["egress.yaml"], ipv6: "fd00:1::/120" },
    },
    'services.ipv6 = "fd00:1::/64": fd00:1::/64 overlaps the tunnels\' fd00:1::/120: give another range',
  ],
  [
    "pools of tunnels around those of services",
    { mode: "controller", trustDomain: "d.example", tunnel: { ipv4: "10.101.7.0/24" } },
    "services.ipv4: 10.101.0.0/16 overlaps the tunnels' 10.101.7.0/24: give another range",
  ],
  [
    "a tunnel without a pool",
    { ...RELAY, tunnel: { policy: ["egress.yaml"], ipv4: null, ipv6: null } },
    "tunnel.ipv4 = null: no pool left: give ipv4 or ipv6",
  ],
  [
    "a reservation outside the pool",
    { ...RELAY, tunnel: { policy: ["egress.yaml"], reservations: { "agent/alice": ["10.101.0.2"] } } },
    'tunnel.reservations."agent/alice"[0] = "10.101.0.2": lies in no pool of this tunnel',
  ],
  [
    "several mistakes at once, in the order of the file",
    { zone: 1, mode: "agent", identity: true, relays: "r", log: { level: 1 } },
    "zone = 1: unknown field; known here: mode, identity, relays, forwards, socks5, httpProxy, allowRemoteClients, services, tunnel, carrier, control, health, log",
    "identity = true: expected the path of an identity file, or { certificate, key, network }",
    'relays = "r": expected a list, found a string',
    "log.level = 1: expected trace, debug, info, warn or error",
  ],
];

for (const [what, config, ...lines] of TABLE) {
  Deno.test(`parseConfig() refuses ${what}`, () => assert.deepEqual(problemsOf(config), lines));
}

Deno.test("a tunnel has defaults, and its paths are taken from the config's folder", () => {
  const relay = parse({ ...RELAY, tunnel: { policy: ["egress.yaml"] } }) as RelayConfig;
  assert.equal(formatPrefix(relay.tunnel!.ipv4!), "10.100.0.0/24");
  assert.equal(relay.tunnel!.ipv6, undefined);
  assert.match(relay.tunnel!.leases, /^\/.*\/leases\.jsonl$/);
  assert.match(relay.tunnel!.policy[0]!, /^\/.*\/egress\.yaml$/);
  const agent = parse({ ...AGENT, tunnel: {} }) as AgentConfig;
  assert.deepEqual(agent.tunnel, {
    interface: "ginnel0",
    routes: "advertised",
    dns: [],
    killSwitch: false,
    dialect: "rfc9484",
  });
});

Deno.test("an agent that tunnels to a foreign proxy needs no relay", () => {
  const proxy = { address: "proxy.example:443", serverName: "proxy.example", roots: "roots.pem" };
  const config = parse({ mode: "agent", identity: "a.json", relays: [], tunnel: { proxy } }) as AgentConfig;
  assert.equal(config.tunnel!.proxy!.path, "/.well-known/masque/ip/*/*/");
  assert.match(config.tunnel!.proxy!.roots, /^\/.*\/roots\.pem$/);
});

Deno.test("only real loopback addresses pass as loopback", () => {
  for (const address of ["127.0.0.1:1", "127.255.255.254:1", "[::1]:1", "localhost:1"]) {
    assert.doesNotThrow(() => parse({ ...AGENT, socks5: address }), address);
  }
  for (
    const address of [
      "127.evil.example:1",
      "127.0.0.1.evil.example:1",
      "127.0.0.256:1",
      "127.1:1",
      "0127.0.0.1:1",
      "[::ffff:127.0.0.1]:1",
      "[::]:1",
      "localhost.evil.example:1",
    ]
  ) {
    assert.equal(problemsOf({ ...AGENT, socks5: address }).length, 1, address);
  }
});

Deno.test("allowRemoteClients lets listeners use any address", () => {
  const config = parse({ ...AGENT, allowRemoteClients: true, socks5: "0.0.0.0:1080" });
  assert.deepEqual((config as { socks5: unknown }).socks5, { hostname: "0.0.0.0", port: 1080 });
});

Deno.test("places point at the value, at an unknown field's name, and at the object that lacks a field", () => {
  const text = '{\n  "mode": "agent",\n  "identity": 1,\n  "relays": [{}],\n  "x": 1\n}';
  assert.throws(() => parseConfig(text, { file: "a.json" }), (error) => {
    assert.ok(error instanceof ConfigError);
    assert.deepEqual(error.problems.map(({ line, column, field }) => `${line}:${column} ${field}`), [
      "3:15 identity",
      "4:14 relays[0].name",
      "4:14 relays[0].address",
      "5:3 x",
    ]);
    return true;
  });
});

Deno.test("text that is no JSON is refused with its place and without repeating it", () => {
  const cases: [string, string][] = [
    ["", "a.json:1:1: not JSON: the file is empty"],
    [
      '{"mode":"agent",\n}',
      "a.json:2:1: not JSON: expected a field name in double quotes; JSON has no comma before }",
    ],
    ['{"mode":"agent","mode":"relay"}', 'a.json:1:17: not JSON: field "mode" is given twice'],
    ["secret-token-42", "a.json:1:1: not JSON: text must stand in double quotes"],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parseConfig(text, { file: "a.json" }), { code: "ERR_CONFIG", message });
  }
});

Deno.test("secrets put in by mistake are not repeated in errors", () => {
  const pem = "-----BEGIN PRIVATE KEY-----\nMIGH";
  const configs = [
    { ...AGENT, password: "hunter2" },
    { ...AGENT, relays: [{ ...AGENT.relays[0], authToken: "hunter2" }] },
    { ...AGENT, socks5: pem },
    { ...RELAY, authority: { key: { kty: "EC", d: "hunter2" } } },
    { ...AGENT, jot: "eyJhbGciOiJFUzI1NiJ9.hunter2" },
  ];
  for (const config of configs) {
    const text = problemsOf(config).join("\n");
    assert.ok(!text.includes("hunter2") && !text.includes("MIGH"), text);
  }
});

Deno.test("long values and odd field names are cut and quoted", () => {
  const [line] = problemsOf({ ...AGENT, carrier: "x".repeat(500), ["a b\n"]: 1 });
  assert.ok(line!.length < 250);
  assert.match(problemsOf({ ...AGENT, ["a b\n"]: 1 })[0]!, /^"a b\\n" = 1: unknown field/);
});

Deno.test("__proto__ in a config is an unknown field", () => {
  const text = '{"__proto__": {"mode": "relay"}, "mode": "agent"}';
  assert.throws(() => parseConfig(text, { file: "a.json" }), /__proto__ = \{…\}: unknown field/);
});

Deno.test("loadConfig() anchors paths at the file's folder, and names files it cannot read", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/agent.json`;
    await Deno.writeTextFile(file, JSON.stringify({ ...AGENT, identity: "id.json" }));
    const config = await loadConfig(file);
    assert.ok(config.mode === "agent");
    assert.equal(config.identity, `${folder}/id.json`);
    await assert.rejects(loadConfig(`${folder}/absent.json`), {
      code: "ERR_CONFIG",
      message: `${folder}/absent.json: no such file`,
    });
    await assert.rejects(loadConfig(folder), { code: "ERR_CONFIG", message: `${folder}: not a file` });
    await Deno.writeFile(file, new Uint8Array([0xff, 0xfe]));
    await assert.rejects(loadConfig(file), { code: "ERR_CONFIG", message: `${file}: not UTF-8 text` });
    await Deno.truncate(file, 3 * 1024 * 1024);
    await assert.rejects(loadConfig(file), { code: "ERR_CONFIG", message: /larger than/ });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
