import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp, parsePrefix } from "../../../src/base/ip.ts";
import { ServiceZone, type ZoneType, type ZoneVerdict } from "../../../src/core/dns/service_zone.ts";
import { type DialableService, ServiceCatalogue } from "../../../src/core/service/catalogue.ts";

const NETWORK = {
  zone: "ginnel.internal",
  ipv4: parsePrefix("10.101.0.0/16")!,
  ipv6: parsePrefix("fd65:4321::/64")!,
};
const BASE = { endToEnd: "required", connectors: [], idleTimeout: 120_000 } as const;
const SERVICES: readonly DialableService[] = [
  { ...BASE, service: "web", index: 16 },
  { ...BASE, service: "deep.down", index: 17 },
  {
    ...BASE,
    service: "db",
    index: 300,
    intercept: {
      addresses: ["db.example.com", "192.0.2.0/28"],
      portRanges: [{ low: 5_432, high: 5_440 }, { low: 6_432, high: 6_432 }],
      protocols: ["tcp"],
    },
  },
  {
    ...BASE,
    service: "corp",
    index: 301,
    intercept: { addresses: ["*.corp.example"], portRanges: [{ low: 53, high: 53 }], protocols: ["udp"] },
  },
  { ...BASE, service: "_odd", index: 302 },
];

Deno.test("without a valid view everything of ours fails by the last list, and nothing of it is forwarded", () => {
  const { zone, ask } = setUp({ valid: false });
  const ours = [
    ...[
      "ginnel.internal",
      "web.ginnel.internal",
      "nowhere.ginnel.internal",
      "_http._tcp.web.ginnel.internal",
    ],
    ...["db.example.com", "any.corp.example", "_x._tcp.any.corp.example", "16.0.101.10.in-addr.arpa"],
    ...["3.2.0.192.in-addr.arpa", "a\\032b.corp.example"],
  ];
  for (const name of ours) assert.equal(ask(name).outcome, "unavailable", name);
  assert.equal(ask("example.com").outcome, "forward");
  zone.update({ catalogue: new ServiceCatalogue(SERVICES, NETWORK), valid: true });
  assert.equal(ask("web.ginnel.internal").outcome, "found");
});

Deno.test("a name of the zone with a search domain behind it is not there, and not asked of anybody", () => {
  for (const valid of [true, false]) {
    const { ask } = setUp({ valid });
    for (
      const name of ["web.ginnel.internal.example.org", "ginnel.internal.lan", "a.b.ginnel.internal.x.y"]
    ) {
      assert.equal(ask(name).outcome, valid ? "no-name" : "unavailable");
    }
    for (const name of ["db.example.com.lan", "any.corp.example.deep.lan"]) {
      assert.equal(ask(name).outcome, valid ? "no-name" : "unavailable");
    }
    for (
      const name of ["xginnel.internal.lan", "db.example.com.br", "x.corp.example.org", "www.lan", "lan"]
    ) {
      assert.equal(ask(name).outcome, "forward", name);
    }
  }
});

Deno.test("before any list has come, the zone fails and all else is forwarded", () => {
  const zone = new ServiceZone({ names: numbers(), zone: "ginnel.internal" });
  const ask = (name: string) => zone.answer({ name, type: "A" }, 0).outcome;
  assert.deepEqual(
    ["web.ginnel.internal", "ginnel.internal", "xginnel.internal", "db.example.com"].map(ask),
    [
      ...["unavailable", "unavailable", "forward", "forward"],
    ],
  );
  assert.deepEqual(zone.domains(), ["ginnel.internal"]);
});

Deno.test("a service has its own addresses, in both families", () => {
  const { ask } = setUp();
  assert.deepEqual(addresses(ask("web.ginnel.internal")), ["10.101.0.16"]);
  assert.deepEqual(addresses(ask("web.ginnel.internal", "AAAA")), ["fd65:4321::10"]);
  assert.deepEqual(addresses(ask("web.ginnel.internal", "ANY")), ["10.101.0.16"]);
  for (const type of ["SRV", "PTR", "SOA", "other"] as const) {
    assert.deepEqual(ask("web.ginnel.internal", type), { outcome: "no-data", apex: "ginnel.internal" });
  }
});

Deno.test("names that are not there are not there, those above a service are but have nothing", () => {
  const { ask } = setUp();
  const none = { outcome: "no-name", apex: "ginnel.internal" };
  for (const name of ["nowhere", "below.web", "w\\046x", "-web", "web.ginnel.internal"]) {
    assert.deepEqual(ask(`${name}.ginnel.internal`), none, name);
  }
  assert.deepEqual(ask("down.ginnel.internal"), { outcome: "no-data", apex: "ginnel.internal" });
  assert.deepEqual(ask("ginnel.internal"), { outcome: "no-data", apex: "ginnel.internal" });
  assert.deepEqual(ask("ginnel.internal", "SOA"), {
    ...{ outcome: "found", records: [{ type: "soa" }], apex: "ginnel.internal" },
  });
  assert.deepEqual(addresses(ask("_odd.ginnel.internal")), ["10.101.1.46"]);
});

Deno.test("intercepted names have addresses of their own, the same for the same name", () => {
  const { ask } = setUp();
  assert.deepEqual(addresses(ask("db.example.com")), ["10.101.128.0"]);
  assert.deepEqual(addresses(ask("a.corp.example")), ["10.101.128.1"]);
  assert.deepEqual(addresses(ask("deep.a.corp.example", "AAAA")), ["fd65:4321::8002"]);
  assert.deepEqual(addresses(ask("db.example.com", "AAAA")), ["fd65:4321::8000"]);
  for (const name of ["example.com", "corp.example", "below.db.example.com", "xcorp.example"]) {
    assert.equal(ask(name).outcome, "forward", name);
  }
});

Deno.test("a name that no host has stays here below a wildcard, and gets no address", () => {
  const { ask } = setUp();
  for (const name of ["a\\032b.corp.example", "-x-.corp.example"]) {
    assert.deepEqual(ask(name), { outcome: "no-name", apex: name });
  }
});

Deno.test("where all numbers for names are in use, the name fails and is not forwarded", () => {
  const { ask } = setUp({ limit: 1 });
  assert.equal(ask("a.corp.example").outcome, "found");
  assert.equal(ask("b.corp.example").outcome, "unavailable");
  assert.equal(ask("a.corp.example").outcome, "found");
});

Deno.test("SRV tells the lowest port of every range, or the port asked for", () => {
  const { ask } = setUp();
  const ports = (name: string) => {
    const verdict = ask(name, "SRV");
    if (verdict.outcome !== "found") return verdict.outcome;
    return verdict.records.map((record) => record.type === "srv" ? [record.target, record.port] : record);
  };
  const db = "db.ginnel.internal";
  assert.deepEqual(ports(`_postgresql._tcp.${db}`), [[db, 5_432], [db, 6_432]]);
  assert.deepEqual(ports("_any._tcp.db.example.com"), [["db.example.com", 5_432], ["db.example.com", 6_432]]);
  assert.deepEqual(ports(`_5440._tcp.${db}`), [[db, 5_440]]);
  assert.deepEqual(ports("_8080._tcp.web.ginnel.internal"), [["web.ginnel.internal", 8_080]]);
  assert.deepEqual(ports("_53._udp.x.corp.example"), [["x.corp.example", 53]]);
  const nothing = [`_5441._tcp.${db}`, `_x._udp.${db}`, `_tcp.${db}`, "_http._tcp.web.ginnel.internal"];
  for (const name of [...nothing, "_65536._tcp.web.ginnel.internal"]) {
    assert.equal(ports(name), "no-data", name);
  }
  assert.equal(ports(`_a._b._tcp.${db}`), "no-name");
  assert.equal(ports("_http._tcp.nowhere.ginnel.internal"), "no-name");
  assert.equal(ports("_http._tcp.example.com"), "forward");
});

Deno.test("addresses have names: services' own, invented ones, and those of intercepted prefixes", () => {
  const { ask } = setUp();
  const host = (name: string) => {
    const verdict = ask(name, "PTR");
    return verdict.outcome === "found" ? verdict.records : verdict.outcome;
  };
  const ptr = (text: string) => [{ type: "ptr", host: text }];
  assert.deepEqual(host("16.0.101.10.in-addr.arpa"), ptr("web.ginnel.internal"));
  assert.deepEqual(host(`0.1.0.0.1.${"0.".repeat(19)}1.2.3.4.5.6.d.f.ip6.arpa`), "no-name");
  assert.deepEqual(
    host(`0.1.${"0.".repeat(22)}1.2.3.4.5.6.d.f.ip6.arpa`),
    ptr("web.ginnel.internal"),
  );
  assert.deepEqual(host("3.2.0.192.in-addr.arpa"), ptr("db.ginnel.internal"));
  assert.equal(host("0.128.101.10.in-addr.arpa"), "no-name");
  ask("a.corp.example");
  assert.deepEqual(host("0.128.101.10.in-addr.arpa"), ptr("a.corp.example"));
  assert.equal(host("1.0.101.10.in-addr.arpa"), "no-name");
  assert.equal(host("0.101.10.in-addr.arpa"), "no-data");
  assert.equal(host("lb._dns-sd._udp.0.0.101.10.in-addr.arpa"), "no-name");
  assert.equal(host("x.101.10.in-addr.arpa"), "no-name");
  for (const name of ["10.in-addr.arpa", "99.2.0.192.in-addr.arpa", "1.0.0.127.in-addr.arpa"]) {
    assert.equal(host(name), "forward", name);
  }
  assert.equal(ask("16.0.101.10.in-addr.arpa", "A").outcome, "no-data");
});

Deno.test("the domains to be asked here are the zone, what is intercepted, and the reverse names", () => {
  const { zone } = setUp();
  const domains = zone.domains();
  assert.deepEqual(domains.slice(0, 5), [
    ...["ginnel.internal", "corp.example", "db.example.com", "101.10.in-addr.arpa"],
    "0.0.0.0.0.0.0.0.1.2.3.4.5.6.d.f.ip6.arpa",
  ]);
  assert.equal(domains.length, 5 + 16);
  assert.ok(domains.includes("15.2.0.192.in-addr.arpa"));
});

Deno.test("fuzz: nothing in the zone or below a wildcard is ever forwarded", () => {
  const label = fc.oneof(
    fc.constantFrom("web", "_tcp", "_http", "db", "-", "a\\046b", "x", "ginnel", "internal"),
    fc.stringMatching(/^[a-z0-9_-]{1,12}$/),
  );
  const zones = fc.constantFrom("ginnel.internal", "corp.example");
  const types = fc.constantFrom<ZoneType>("A", "AAAA", "SRV", "PTR", "SOA", "ANY", "other");
  const { ask } = setUp();
  const away = setUp({ valid: false });
  fc.assert(
    fc.property(fc.array(label, { minLength: 1, maxLength: 6 }), zones, types, (labels, zone, type) => {
      const name = [...labels, zone].join(".");
      // Service labels with no host in front of a wildcard's own domain mean that domain, which is not ours.
      if (zone === "corp.example" && labels.every((text) => text.startsWith("_"))) return;
      const verdict = ask(name, type);
      assert.notEqual(verdict.outcome, "forward");
      if ("apex" in verdict) assert.ok(name === verdict.apex || name.endsWith(`.${verdict.apex}`));
      assert.equal(away.ask(name, type).outcome, "unavailable");
    }),
  );
});

function setUp({ valid = true, limit = 1_000 } = {}) {
  const zone = new ServiceZone({ names: numbers(limit), zone: "ginnel.internal" });
  zone.update({ catalogue: new ServiceCatalogue(SERVICES, NETWORK), valid, search: ["lan", "deep.lan"] });
  return { zone, ask: (name: string, type: ZoneType = "A") => zone.answer({ name, type }, 0) };
}

/** Numbers for names, in the order in which they are asked for. */
function numbers(limit = 1_000) {
  const hosts: string[] = [];
  return {
    indexOf: (host: string) => {
      if (!hosts.includes(host) && hosts.length < limit) hosts.push(host);
      return hosts.includes(host) ? 32_768 + hosts.indexOf(host) : undefined;
    },
    hostOf: (index: number) => hosts[index - 32_768],
  };
}

function addresses(verdict: ZoneVerdict): string[] {
  assert.equal(verdict.outcome, "found");
  return (verdict as Extract<ZoneVerdict, { outcome: "found" }>).records.map((record) =>
    record.type === "address" ? formatIp(record.address) : record.type
  );
}
