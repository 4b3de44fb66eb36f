/** An address is found under every prefix that holds it, and no other. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { parsePrefix, prefixContains, prefixOf } from "../../../src/base/ip.ts";
import { type CataloguedService, ServiceCatalogue } from "../../../src/core/service/catalogue.ts";
import { grouped, PrefixIndex } from "../../../src/core/service/service_tables.ts";

const [TEMPLATE] = new ServiceCatalogue(
  [{ service: "s", index: 16, endToEnd: "required", connectors: [], idleTimeout: 1 }],
  { zone: "z.internal", ipv4: parsePrefix("10.101.0.0/16")!, ipv6: parsePrefix("fd00::/64")! },
).services();

const address = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }).map((value) => ({ version: 4 as const, value })),
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((value) => ({ version: 6 as const, value })),
);

Deno.test("PrefixIndex finds what looking at every prefix finds, the longest first", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(address, fc.nat(32)), { maxLength: 12 }), address, (list, asked) => {
      const services = list.map(([from, length], i): CataloguedService => ({
        ...TEMPLATE!,
        name: `s${i}`,
        // Around the asked address, so that there is something to find.
        prefixes: [prefixOf(i % 2 === 0 ? asked : from, length)],
      }));
      const expected = services.filter(({ prefixes: [prefix] }) => prefixContains(prefix!, asked))
        .sort((a, b) => b.prefixes[0]!.length - a.prefixes[0]!.length || a.name.localeCompare(b.name))
        .map(({ name }) => name);
      const found = [...new PrefixIndex(services).at(asked)]
        .flatMap((group) => group.map(({ name }) => name).toSorted((a, b) => a.localeCompare(b)));
      assert.deepEqual(found, expected);
    }),
  );
});

Deno.test("grouped() keeps the order of services under each key", () => {
  const services = ["a", "b", "c"].map((name): CataloguedService => ({ ...TEMPLATE!, name }));
  const groups = grouped(services, ({ name }) => name === "b" ? ["x", "y"] : ["x"]);
  assert.deepEqual([...groups].map(([key, group]) => [key, group.map(({ name }) => name).join("")]), [
    ["x", "abc"],
    ["y", "b"],
  ]);
});
