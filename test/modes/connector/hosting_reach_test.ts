/** What of a connector's surroundings administrators may lead flows to. */

import assert from "node:assert/strict";
import { parseDestination } from "../../../src/core/service/destinations.ts";
import type { Host } from "../../../src/core/service/host.ts";
import { HostingReach } from "../../../src/modes/connector/hosting_reach.ts";

/** A reach in a world where names resolve as `names` says at that moment. */
function reachOf(allow: readonly string[], names: Record<string, readonly string[]> = {}): HostingReach {
  return new HostingReach(allow.map((text) => parseDestination(text)!), {
    resolve: (host) =>
      host in names ? Promise.resolve(names[host]!) : Promise.reject(new Error("no address")),
  });
}

const DENIED = { code: "ERR_FLOW_REFUSED", reason: "denied" };

Deno.test("a name that resolves outside the allowed prefixes is refused, also if only one of its addresses is", async () => {
  const names = { "db.example": ["10.0.0.1", "169.254.169.254"] };
  await assert.rejects(reachOf(["10.0.0.0/8"], names).addresses("db.example", 80), DENIED);
});

Deno.test("a name that is resolved anew is checked anew, and what was checked is what is dialled", async () => {
  const names: Record<string, readonly string[]> = { "db.example": ["10.0.0.1"] };
  const reach = reachOf(["10.0.0.0/8"], names);
  assert.deepEqual(await reach.addresses("db.example", 80), ["10.0.0.1"]);
  names["db.example"] = ["127.0.0.1"];
  await assert.rejects(reach.addresses("db.example", 80), DENIED);
});

Deno.test("an allowed name is dialled wherever it resolves to, on its ports alone", async () => {
  const reach = reachOf(["db.example:5432"], { "db.example": ["192.0.2.1"] });
  assert.deepEqual(await reach.addresses("db.example", 5432), ["192.0.2.1"]);
  await assert.rejects(reach.addresses("db.example", 22), DENIED);
});

Deno.test("an address is not let through because a name is, and is never resolved", async () => {
  await assert.rejects(reachOf(["db.example", "*.example"]).addresses("192.0.2.1", 80), DENIED);
  await assert.rejects(reachOf(["127.0.0.0/8"]).addresses("::ffff:10.0.0.1", 80), DENIED);
  assert.deepEqual(await reachOf(["127.0.0.0/8"]).addresses("127.0.0.1", 80), ["127.0.0.1"]);
});

const NAMES = { "in.example": ["10.0.0.1"], "out.example": ["10.0.0.1", "192.0.2.1"] };

const HOSTS: readonly [string, Host, boolean][] = [
  ["an allowed address", { protocol: "tcp", address: "10.0.0.1", port: 80 }, true],
  ["an address elsewhere", { protocol: "tcp", address: "11.0.0.1", port: 80 }, false],
  ["a port that is not allowed", { protocol: "tcp", address: "10.0.0.1", port: 443 }, false],
  ["a name with an allowed address", { protocol: "tcp", address: "in.example", port: 80 }, true],
  ["a name with one address elsewhere", { protocol: "tcp", address: "out.example", port: 80 }, false],
  ["an allowed name", { protocol: "tcp", address: "named.example", port: 443 }, true],
  [
    "an address for ports of which some are allowed",
    { protocol: "tcp", address: "10.0.0.1", forwardPort: true, allowedPortRanges: [{ low: 79, high: 99 }] },
    true,
  ],
  [
    "prefixes that overlap",
    { protocol: "tcp", forwardAddress: true, allowedAddresses: ["192.0.2.0/24", "10.1.0.0/16"], port: 80 },
    true,
  ],
  [
    "prefixes that do not",
    { protocol: "tcp", forwardAddress: true, allowedAddresses: ["192.0.2.0/24"], port: 80 },
    false,
  ],
  ["names that may resolve to anything", {
    protocol: "tcp",
    forwardAddress: true,
    allowedAddresses: ["*.corp"],
    port: 80,
  }, true],
];

for (const [what, host, expected] of HOSTS) {
  Deno.test(`admits ${expected ? "" : "not "}${what}`, async () => {
    const reach = reachOf(["10.0.0.0/8:80", "named.example:443"], NAMES);
    assert.equal(await reach.admits(host), expected);
  });
}

Deno.test("only names that are not allowed by themselves depend on DNS", () => {
  const reach = reachOf(["10.0.0.0/8", "*.example:443"]);
  const host = (address: string, port: number): Host => ({ protocol: "tcp", address, port });
  assert.ok(reach.dependsOnDns(host("db.example", 80)));
  assert.ok(!reach.dependsOnDns(host("db.example", 443)));
  assert.ok(!reach.dependsOnDns(host("10.0.0.1", 80)));
});
