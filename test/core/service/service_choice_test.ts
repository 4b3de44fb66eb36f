/** Of services with equal claims one is chosen by port and protocol, always the same. */

import assert from "node:assert/strict";
import { parsePrefix } from "../../../src/base/ip.ts";
import { type CataloguedService, ServiceCatalogue } from "../../../src/core/service/catalogue.ts";
import { accepts, choose } from "../../../src/core/service/service_choice.ts";

const [TEMPLATE] = new ServiceCatalogue(
  [{ service: "s", index: 16, endToEnd: "required", connectors: [], idleTimeout: 1 }],
  { zone: "z.internal", ipv4: parsePrefix("10.101.0.0/16")!, ipv6: parsePrefix("fd00::/64")! },
).services();

const make = (name: string, ports: CataloguedService["ports"]): CataloguedService => ({
  ...TEMPLATE!,
  name,
  ports,
  protocols: ["tcp"],
});
const ALL = make("all", []);
const MANY = make("many", [{ low: 1, high: 100 }, { low: 200, high: 200 }]);
const ONE = make("one", [{ low: 80, high: 80 }]);

Deno.test("accepts() wants the protocol and a range with the port; echo has neither", () => {
  for (
    const [service, port, expected] of [
      [ALL, 1, true],
      [MANY, 100, true],
      [MANY, 101, false],
      [MANY, 200, true],
      [ONE, 80, true],
      [ONE, 81, false],
    ] as const
  ) {
    assert.equal(accepts(service, { protocol: "tcp", port }), expected, `${service.name} ${port}`);
    assert.equal(accepts(service, { protocol: "udp", port }), false);
    assert.equal(accepts(service, { protocol: "icmp" }), true);
  }
});

Deno.test("choose() takes the first group that accepts, in it the smallest range around the port", () => {
  const ask = (groups: readonly (readonly CataloguedService[])[], port: number) => {
    const match = choose(groups, { question: { protocol: "tcp", port }, address: "a" });
    return typeof match === "string" ? match : `${match.service.name} ${match.address}`;
  };
  assert.equal(ask([[ALL, MANY, ONE]], 80), "one a");
  assert.equal(ask([[ALL, MANY, ONE]], 81), "many a");
  assert.equal(ask([[ALL, MANY, ONE]], 101), "all a");
  assert.equal(ask([[ONE], [ALL, MANY]], 81), "many a");
  assert.equal(ask([[MANY], [ONE]], 80), "many a");
  assert.equal(ask([[ONE], [MANY]], 300), "port");
  assert.equal(ask([], 80), "unknown");
});
