/** Configs of controllers, and what a relay's config says of where its policy comes from. */

import assert from "node:assert/strict";
import { parsePrefix } from "../../src/base/ip.ts";
import type { RelayConfig } from "../../src/config/schema/relay.ts";
import { parse, problemsOf, RELAY } from "./config_cases.ts";

Deno.test("a minimal controller, alone or in a relay, gets every default and absolute paths", () => {
  const config = parse({ mode: "controller", trustDomain: "d.example" });
  const settings = {
    trustDomain: "d.example",
    name: "controller-1",
    data: "/etc/ginnel/data",
    database: { kind: "sqlite" },
    listen: { hostname: "0.0.0.0", port: 8441 },
    names: ["localhost", "127.0.0.1"],
    peers: [],
    tunnel: { ipv4: parsePrefix("10.100.0.0/24"), reservations: {}, leaseTime: 30 * 86_400_000 },
    services: { zone: "ginnel.internal", ipv4: parsePrefix("10.101.0.0/16") },
    certificates: { node: 30 * 86_400_000, user: 8 * 3_600_000, enrolment: 86_400_000 },
    viewTtl: 86_400_000,
    oidc: { allowPrivate: [] },
  };
  const health = { kind: "tcp", hostname: "0.0.0.0", port: 8080 };
  assert.deepEqual(config, { mode: "controller", ...settings, health, log: { level: "info" } });
  const relay = parse({ mode: "relay", controller: { trustDomain: "d.example" } }) as RelayConfig;
  assert.deepEqual(relay.controller, settings);
});

/** What is wrong, the config, and the problems it has. */
const REFUSED: readonly (readonly [string, unknown, ...string[]])[] = [
  [
    "a relay without identity and controller",
    { mode: "relay" },
    "identity: is missing: name an identity file, or give controller for a network that this relay starts by itself",
  ],
  [
    "policy files without an authority",
    { mode: "relay", identity: "id.json", policy: ["p.yaml"] },
    "authority: is missing: a relay that reads policy files signs the views",
  ],
  [
    "an authority without policy files",
    { mode: "relay", identity: "id.json", authority: { key: "k" } },
    "policy: is missing: authority is for a relay that reads policy files",
  ],
  [
    "policy files beside a controller",
    { ...RELAY, controller: { trustDomain: "d.example" } },
    "controller = {…}: not beside policy: a relay has one source of policy",
  ],
  [
    "two sources of policy",
    {
      mode: "relay",
      controller: { trustDomain: "d.example" },
      controllers: [{ name: "c", url: "https://c.example" }],
    },
    "controllers = […]: not beside controller: a relay has one source of policy",
  ],
  [
    "an egress policy file beside a controller",
    { mode: "relay", controller: { trustDomain: "d.example" }, tunnel: { policy: ["e.yaml"] } },
    "tunnel.policy = […]: only without a controller: the egress policy is set through its API",
  ],
  [
    "a tunnel of a relay with policy files that has no egress policy",
    { ...RELAY, tunnel: {} },
    "tunnel.policy: name at least one egress policy file",
  ],
  [
    "a controller's settings that are none",
    {
      mode: "controller",
      trustDomain: "D",
      name: "a.b",
      url: "http://c.example",
      names: ["a b"],
      database: { kind: "postgres", path: "x" },
      certificates: { user: "1y" },
    },
    'trustDomain = "D": not a trust domain: lower-case letters, digits and . _ -',
    'name = "a.b": not a server\'s name: lower-case letters, digits and inner dashes, as given when its identity was made',
    'url = "http://c.example": not an https:// URL',
    'names[0] = "a b": not a DNS name in lower case, nor an IP address',
    "database.urlFile: is missing: name the file with the database's URL",
    'database.path = "x": only for kind sqlite',
    'certificates.user = "1y": not a duration: write a whole number and a unit, such as 250ms, 30s, 5m, 1h or 7d',
  ],
];

for (const [what, config, ...lines] of REFUSED) {
  Deno.test(`parseConfig() refuses ${what}`, () => assert.deepEqual(problemsOf(config), lines));
}
