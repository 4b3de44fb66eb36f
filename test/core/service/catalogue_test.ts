/** A name or address means one service, whatever others claim of it, and only with its port and protocol. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp, formatPrefix, parseIp, parsePrefix } from "../../../src/base/ip.ts";
import {
  type DialableService,
  ServiceCatalogue,
  type ServiceMatch,
  type ServiceMismatch,
  type ServiceQuestion,
} from "../../../src/core/service/catalogue.ts";
import type { Intercept } from "../../../src/core/service/intercept.ts";

const NETWORK = {
  zone: "ginnel.internal",
  ipv4: parsePrefix("10.101.0.0/16")!,
  ipv6: parsePrefix("fd00:1:2:3::/64")!,
};
const WEB: ServiceQuestion = { protocol: "tcp", port: 443 };

Deno.test("a service's own name and addresses mean it alone, whatever others intercept", () => {
  const catalogue = make({
    db: { index: 20, ports: [5432] },
    thief: {
      index: 21,
      addresses: ["db.ginnel.internal", "*.ginnel.internal", "10.101.0.20", "10.101.0.0/16", "fd00::/16"],
      ports: "all",
    },
  });
  for (const port of [5432, 443]) {
    const expected = port === 5432 ? "db" : "port";
    assert.equal(name(catalogue.matchHost("DB.ginnel.internal.", { protocol: "tcp", port })), expected);
    assert.equal(at(catalogue, "10.101.0.20", { protocol: "tcp", port }), expected);
    assert.equal(at(catalogue, "fd00:1:2:3::14", { protocol: "tcp", port }), expected);
  }
  assert.deepEqual(catalogue.atHost("db.ginnel.internal").map((service) => service.name), ["db"]);
  // Nobody's addresses within the pools stay nobody's.
  for (const text of ["10.101.0.22", "10.101.200.1", "fd00:1:2:3:ffff::14"]) {
    assert.equal(at(catalogue, text, WEB), "unknown", text);
    assert.ok(!catalogue.intercepts(parseIp(text)!), text);
  }
  assert.equal(at(catalogue, "fd00:9::1", WEB), "thief");
});

Deno.test("the exact name comes before the longest wildcard, and that before shorter ones", () => {
  const catalogue = make({
    exact: { index: 20, addresses: ["a.b.example"], ports: "all" },
    long: { index: 21, addresses: ["*.b.example"], ports: "all" },
    short: { index: 22, addresses: ["*.example"], ports: "all" },
  });
  for (
    const [host, service] of [
      ["A.B.Example", "exact"],
      ["x.a.b.example", "long"],
      ["x.b.example", "long"],
      ["b.example", "short"],
      ["y.z.example", "short"],
      ["example", "unknown"],
      ["b.example.evil", "unknown"],
      ["xexample", "unknown"],
      ["a.b.example/", "unknown"],
      ["", "unknown"],
    ] as const
  ) {
    assert.equal(name(catalogue.matchHost(host, WEB)), service, host);
    assert.equal(catalogue.hasName(host), service !== "unknown", host);
  }
});

Deno.test("the longest prefix comes before shorter ones", () => {
  const catalogue = make({
    one: { index: 20, addresses: ["192.0.2.7"], ports: "all" },
    some: { index: 21, addresses: ["192.0.2.0/24"], ports: "all" },
    many: { index: 22, addresses: ["192.0.0.0/8", "2001:db8::/32"], ports: "all" },
  });
  for (
    const [address, service] of [
      ["192.0.2.7", "one"],
      ["192.0.2.8", "some"],
      ["192.0.3.8", "many"],
      ["193.0.2.7", "unknown"],
      ["2001:db8:1::1", "many"],
      ["::ffff:192.0.2.7", "unknown"],
    ] as const
  ) assert.equal(at(catalogue, address, WEB), service, address);
});

Deno.test("of equals the one with the smallest range of ports wins, then the first by name", () => {
  const addresses = ["a.example"];
  const catalogue = make({
    b: { index: 20, addresses, ports: "all" },
    z: { index: 21, addresses, ports: [443] },
    y: { index: 22, addresses, ports: [443], protocols: ["udp"] },
    a: { index: 23, addresses, ports: "all" },
  });
  assert.equal(name(catalogue.matchHost("a.example", WEB)), "z");
  assert.equal(name(catalogue.matchHost("a.example", { protocol: "tcp", port: 444 })), "a");
  assert.equal(name(catalogue.matchHost("a.example", { protocol: "udp", port: 443 })), "y");
});

Deno.test("what does not take the port or protocol is passed over; when nothing takes it, that is said", () => {
  const catalogue = make({
    exact: { index: 20, addresses: ["a.example", "192.0.2.7"], ports: [80] },
    wide: { index: 21, addresses: ["*.example", "192.0.2.0/24"], ports: [443] },
  });
  assert.equal(name(catalogue.matchHost("a.example", WEB)), "wide");
  assert.equal(at(catalogue, "192.0.2.7", WEB), "wide");
  for (
    const question of [{ protocol: "tcp", port: 22 }, { protocol: "udp", port: 80 }, {
      protocol: "tcp",
    }] as const
  ) {
    assert.equal(name(catalogue.matchHost("a.example", question)), "port");
    assert.equal(at(catalogue, "192.0.2.7", question), "port");
  }
});

Deno.test("every service answers pings, whatever its ports", () => {
  const catalogue = make({ web: { index: 20, addresses: ["a.example"], ports: [80], protocols: ["udp"] } });
  for (const host of ["web.ginnel.internal", "a.example"]) {
    assert.equal(name(catalogue.matchHost(host, { protocol: "icmp" })), "web");
  }
  assert.equal(at(catalogue, "10.101.0.20", { protocol: "icmp" }), "web");
});

Deno.test("a connector is told what was asked for, unless it is the service's own", () => {
  const catalogue = make({ web: { index: 20, addresses: ["*.example", "2001:db8::/32"], ports: "all" } });
  const told = (match: ServiceMatch | ServiceMismatch) => typeof match === "string" ? match : match.address;
  assert.equal(told(catalogue.matchHost("X.Example.", WEB)), "x.example");
  assert.equal(told(catalogue.matchAddress(parseIp("2001:DB8::0:1")!, WEB)), "2001:db8::1");
  assert.equal(told(catalogue.matchHost("web.ginnel.internal", WEB)), undefined);
  assert.equal(told(catalogue.matchAddress(parseIp("10.101.0.20")!, WEB)), undefined);
});

Deno.test("a service without intercept.v1 takes every port of both protocols under its own name only", () => {
  const catalogue = make({ web: { index: 0x1234 } });
  const web = catalogue.byName("web")!;
  assert.deepEqual([web.hosts, web.wildcards, web.prefixes, web.ports], [
    ["web.ginnel.internal"],
    [],
    [],
    [],
  ]);
  assert.deepEqual([web.ipv4, web.ipv6].map(formatIp), ["10.101.18.52", "fd00:1:2:3::1234"]);
  for (const protocol of ["tcp", "udp"] as const) {
    assert.equal(name(catalogue.matchHost("web.ginnel.internal", { protocol, port: 65_535 })), "web");
  }
  assert.equal(name(catalogue.matchHost("web", WEB)), "unknown");
});

Deno.test("services without a number, or with another's, are not here; the first by name keeps it", () => {
  const catalogue = make({
    b: { index: 20 },
    a: { index: 20 },
    none: {},
    low: { index: 15 },
    high: { index: 32_768 },
  });
  assert.deepEqual(catalogue.services().map((service) => service.name), ["a"]);
  assert.equal(at(catalogue, "10.101.0.20", WEB), "a");
  assert.equal(catalogue.byName("none"), undefined);
  assert.equal(catalogue.hasName("none.ginnel.internal"), false);
});

Deno.test("domains and routes are each told once; what lies in the zone needs none of its own", () => {
  const catalogue = make({
    a: {
      index: 20,
      addresses: ["x.example", "*.x.example", "10.9.0.0/16", "www.ginnel.internal"],
      ports: "all",
    },
    b: { index: 21, addresses: ["x.example", "*.corp", "10.9.0.0/16", "2001:db8::1"], ports: [1] },
  });
  assert.deepEqual(catalogue.zones(), ["ginnel.internal", "corp", "x.example"]);
  assert.deepEqual(catalogue.prefixes().map(formatPrefix), ["10.9.0.0/16", "2001:db8::1/128"]);
  assert.equal(name(catalogue.matchHost("www.ginnel.internal", WEB)), "a");
});

Deno.test("a match of any name is what asking every service one by one gives", () => {
  const label = fc.constantFrom("a", "b", "c");
  const host = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join("."));
  const pattern = fc.tuple(fc.boolean(), host).map(([isWildcard, text]) => isWildcard ? `*.${text}` : text);
  const spec = fc.record({
    addresses: fc.array(pattern, { minLength: 1, maxLength: 3 }),
    ports: fc.constantFrom([80], [443], "all" as const),
  });
  fc.assert(
    fc.property(fc.array(spec, { maxLength: 6 }), host, (specs, asked) => {
      const catalogue = make(
        Object.fromEntries(specs.map((entry, i) => [`s${i}`, { index: 20 + i, ...entry }])),
      );
      const ranked = specs.flatMap(({ addresses, ports }, i) =>
        addresses.filter((text) =>
          text === asked || text.startsWith("*.") && asked.endsWith(text.slice(1)) && asked !== text.slice(2)
        ).map((text) => ({
          name: `s${i}`,
          rank: text === asked ? 1_000 : text.length,
          size: ports === "all" ? 65_535 : ports[0] === 443 ? 1 : Infinity,
        }))
      );
      const able = ranked.filter(({ size }) => size < Infinity)
        .sort((x, y) => y.rank - x.rank || x.size - y.size || (x.name < y.name ? -1 : 1));
      const expected = able[0]?.name ?? (ranked.length > 0 ? "port" : "unknown");
      assert.equal(name(catalogue.matchHost(asked, WEB)), expected);
    }),
    { numRuns: 500 },
  );
});

interface Spec {
  readonly index?: number;
  readonly addresses?: readonly string[];
  readonly ports?: readonly number[] | "all";
  readonly protocols?: Intercept["protocols"];
}

function make(specs: Readonly<Record<string, Spec>>): ServiceCatalogue {
  const services = Object.entries(specs).map(([service, spec]): DialableService => {
    const { index, addresses = ["unused.invalid"], ports, protocols = ["tcp"] } = spec;
    const portRanges = ports === "all"
      ? [{ low: 1, high: 65_535 }]
      : (ports ?? []).map((port) => ({ low: port, high: port }));
    return {
      service,
      endToEnd: "required",
      connectors: [],
      idleTimeout: 120_000,
      ...(index !== undefined && { index }),
      ...(ports !== undefined && { intercept: { addresses, portRanges, protocols } }),
    };
  });
  return new ServiceCatalogue(services, NETWORK);
}

function name(match: ServiceMatch | ServiceMismatch): string {
  return typeof match === "string" ? match : match.service.name;
}

function at(catalogue: ServiceCatalogue, address: string, question: ServiceQuestion): string {
  return name(catalogue.matchAddress(parseIp(address)!, question));
}
