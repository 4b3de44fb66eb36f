import assert from "node:assert/strict";
import { formatIp, parsePrefix } from "../../../src/base/ip.ts";
import { ServiceCatalogue } from "../../../src/core/service/catalogue.ts";
import { FlowUnavailableError } from "../../../src/modes/agent/local_flow.ts";
import { catalogueResolver } from "../../../src/modes/agent/local_targets.ts";

const COMMON = { endToEnd: "required", connectors: [], idleTimeout: 120_000 } as const;
const CATALOGUE = new ServiceCatalogue([
  { ...COMMON, service: "web", index: 0x1234 },
  {
    ...COMMON,
    service: "db",
    index: 17,
    intercept: {
      addresses: ["db.corp.example", "*.db.corp.example", "192.0.2.0/24"],
      portRanges: [{ low: 5432, high: 5433 }],
      protocols: ["tcp"],
    },
  },
], { zone: "net.example", ipv4: parsePrefix("10.101.0.0/16")!, ipv6: parsePrefix("fd00::/64")! });
const resolve = catalogueResolver(() => CATALOGUE);

function statusOf(step: () => unknown): number {
  try {
    step();
  } catch (error) {
    if (error instanceof FlowUnavailableError) return error.failure.status;
    throw error;
  }
  return 0;
}

Deno.test("every name and address of a service means it; the connector hears of those that are not its own", () => {
  const tcp = (port: number) => ({ protocol: "tcp", port } as const);
  const rows: [string, number, ReturnType<typeof resolve>][] = [
    ["web", 80, { service: "web", port: 80 }],
    ["WEB.net.example.", 80, { service: "web", port: 80 }],
    ["10.101.18.52", 80, { service: "web", port: 80 }],
    ["fd00::1234", 80, { service: "web", port: 80 }],
    ["db", 5432, { service: "db", port: 5432 }],
    ["db.net.example", 5433, { service: "db", port: 5433 }],
    ["db.corp.example", 5432, { service: "db", port: 5432, address: "db.corp.example" }],
    ["eu.DB.corp.example", 5432, { service: "db", port: 5432, address: "eu.db.corp.example" }],
    ["192.0.2.7", 5432, { service: "db", port: 5432, address: "192.0.2.7" }],
  ];
  for (const [host, port, target] of rows) assert.deepEqual(resolve(host, tcp(port)), target, host);
});

Deno.test("an address that was invented for a name means that name", () => {
  const invented = new Map([["10.101.200.1", "eu.db.corp.example"]]);
  const named = catalogueResolver(() => CATALOGUE, (address) => invented.get(formatIp(address)));
  assert.deepEqual(named("10.101.200.1", { protocol: "tcp", port: 5432 }), {
    service: "db",
    port: 5432,
    address: "eu.db.corp.example",
  });
  assert.equal(statusOf(() => named("10.101.200.2", { protocol: "tcp", port: 5432 })), 403);
});

Deno.test("a port or protocol at which a service is not offered is refused as a closed port is", () => {
  for (const host of ["db", "db.", "db.net.example", "db.corp.example", "192.0.2.7", "10.101.0.17"]) {
    assert.equal(statusOf(() => resolve(host, { protocol: "tcp", port: 80 })), 502, host);
    assert.equal(statusOf(() => resolve(host, { protocol: "udp", port: 5432 })), 502, host);
  }
});

Deno.test("foreign addresses and names are refused; names that may be services' are left to the network", () => {
  const question = { protocol: "tcp", port: 80 } as const;
  for (const host of ["10.101.0.99", "192.0.3.1", "::1", "127.0.0.1", "a b", "a..b", ""]) {
    assert.equal(statusOf(() => resolve(host, question)), 403, host);
  }
  assert.deepEqual(resolve("hidden.net.example", question), { service: "hidden", port: 80 });
  assert.deepEqual(resolve("hidden", question), { service: "hidden", port: 80 });
});

Deno.test("without a list, names mean services as relays read them, and addresses nothing", () => {
  const resolve = catalogueResolver(() => undefined);
  const question = { protocol: "tcp", port: 80 } as const;
  assert.deepEqual(resolve("web.ginnel.internal", question), { service: "web", port: 80 });
  assert.equal(statusOf(() => resolve("10.101.18.52", question)), 403);
});
