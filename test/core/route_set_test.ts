import assert from "node:assert/strict";
import fc from "fast-check";
import {
  formatPrefix,
  type IpRange,
  type IpVersion,
  ipWords,
  parseIp,
  parsePrefix,
  prefixRange,
} from "../../src/base/ip.ts";
import { type Route, type RoutedPacket, RouteSet } from "../../src/core/route_set.ts";

const ICMP = { 4: 1, 6: 58 } as const;
const TCP = 6;
const UDP = 17;

function route(prefix: string, protocol = 0): Route {
  return { range: prefixRange(parsePrefix(prefix)!), protocol };
}

function between(first: string, last: string, protocol = 0): Route {
  const { version, value } = parseIp(first)!;
  return { range: { version, first: value, last: parseIp(last)!.value }, protocol };
}

/** A packet to `address`, from nowhere in any set. */
function packet(version: IpVersion, value: bigint, protocol: number): RoutedPacket {
  const [dst0, dst1, dst2, dst3] = ipWords({ version, value });
  const [src0, src1, src2, src3] = ipWords({ version, value: 0n });
  return { version, protocol, dst0, dst1, dst2, dst3, src0, src1, src2, src3 };
}

function swap({ version, protocol, ...p }: RoutedPacket): RoutedPacket {
  return {
    version,
    protocol,
    dst0: p.src0,
    dst1: p.src1,
    dst2: p.src2,
    dst3: p.src3,
    src0: p.dst0,
    src1: p.dst1,
    src2: p.dst2,
    src3: p.dst3,
  };
}

function has(set: RouteSet, address: string, protocol: number): boolean {
  const { version, value } = parseIp(address)!;
  const to = packet(version, value, protocol);
  const found = set.containsDestination(to);
  assert.equal(set.containsSource(swap(to)), found, "both directions ask the same set");
  return found;
}

function show(routes: Route[]): string[] {
  return routes.map(({ range, protocol }) =>
    `${protocol} ${range.version} ${range.first.toString(16)}-${range.last.toString(16)}`
  );
}

Deno.test("each route allows its bounds and not the address beside them, the protocol or the version", () => {
  const set = RouteSet.from([
    route("10.0.0.0/8"),
    between("192.0.2.5", "192.0.2.9", TCP),
    route("fd00::/8", UDP),
    between("::", "::1"),
    between("255.255.255.254", "255.255.255.255"),
  ]);
  const rows: [string, number, boolean][] = [
    ["9.255.255.255", TCP, false],
    ["10.0.0.0", TCP, true],
    ["10.255.255.255", 255, true],
    ["11.0.0.0", TCP, false],
    ["192.0.2.4", TCP, false],
    ["192.0.2.5", TCP, true],
    ["192.0.2.5", UDP, false],
    ["192.0.2.5", 0, false],
    ["192.0.2.9", TCP, true],
    ["192.0.2.10", TCP, false],
    ["fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", UDP, false],
    ["fd00::", UDP, true],
    ["fd00::", TCP, false],
    ["fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", UDP, true],
    ["fe00::", UDP, false],
    ["::1", TCP, true],
    ["::2", TCP, false],
    ["0.0.0.0", TCP, false],
    ["0.0.0.1", TCP, false],
    ["255.255.255.255", TCP, true],
    ["255.255.255.253", TCP, false],
    ["::ffff:10.0.0.1", TCP, false],
    ["::255.255.255.255", TCP, false],
  ];
  for (const [address, protocol, allowed] of rows) {
    assert.equal(has(set, address, protocol), allowed, `${address} protocol ${protocol}`);
  }
});

Deno.test("[RFC9484-4.7.3] ICMP is allowed in every range whatever its protocol, in no other range, and only that of the version", () => {
  const set = RouteSet.from([route("10.0.0.0/8", TCP), route("fd00::/8", UDP)]);
  const rows: [string, number, boolean][] = [
    ["10.1.2.3", ICMP[4], true],
    ["10.1.2.3", ICMP[6], false],
    ["11.1.2.3", ICMP[4], false],
    ["fd00::1", ICMP[6], true],
    ["fd00::1", ICMP[4], false],
    ["fe00::1", ICMP[6], false],
  ];
  for (const [address, protocol, allowed] of rows) {
    assert.equal(has(set, address, protocol), allowed, `${address} protocol ${protocol}`);
  }
});

Deno.test("an empty set allows nothing", () => {
  for (const set of [RouteSet.from([]), RouteSet.from([between("10.0.0.2", "10.0.0.1")])]) {
    assert.ok(set.isEmpty);
    for (const address of ["0.0.0.0", "10.0.0.1", "255.255.255.255", "::", "fd00::1"]) {
      for (const protocol of [0, 1, TCP, 58]) assert.equal(has(set, address, protocol), false, address);
    }
    assert.deepEqual([set.toRoutes(), set.toPrefixes()], [[], []]);
  }
  assert.ok(!RouteSet.from([route("10.0.0.1")]).isEmpty);
  assert.ok(!RouteSet.from([route("fd00::1", TCP)]).isEmpty);
});

Deno.test("[RFC9484-4.7.3] routes come by version, protocol and address; what overlaps or touches is one", () => {
  const set = RouteSet.from([
    route("fd00::/64"),
    route("10.0.1.0/24", UDP),
    route("10.0.0.0/24", TCP),
    route("10.0.1.0/24", TCP),
    route("10.0.3.0/24", TCP),
    between("10.0.3.7", "10.0.4.9", TCP),
    route("192.168.0.0/16"),
    route("192.168.7.0/24"),
  ]);
  assert.deepEqual(show(set.toRoutes()), [
    "0 4 c0a80000-c0a8ffff",
    "6 4 a000000-a0001ff",
    "6 4 a000300-a000409",
    "17 4 a000100-a0001ff",
    "0 6 fd000000000000000000000000000000-fd00000000000000ffffffffffffffff",
  ]);
});

Deno.test("toPrefixes() covers the addresses of all protocols once", () => {
  const set = RouteSet.from([
    route("10.0.0.0/9", TCP),
    route("10.128.0.0/9", UDP),
    route("0.0.0.0/0", 50),
    route("fd00::/65", TCP),
    between("fd00:0:0:0:8000::", "fd00::ffff:ffff:ffff:ffff"),
  ]);
  assert.deepEqual(set.toPrefixes().map(formatPrefix), ["0.0.0.0/0", "fd00::/64"]);
  const odd = RouteSet.from([between("10.0.0.1", "10.0.0.4")]);
  assert.deepEqual(odd.toPrefixes().map(formatPrefix), ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]);
});

Deno.test("intersect() keeps the narrower of range and protocol, and never joins two protocols", () => {
  const policy = RouteSet.from([route("10.0.0.0/8", TCP), route("10.1.0.0/16"), route("fd00::/8")]);
  const rows: [Route[], string[]][] = [
    [[route("0.0.0.0/0"), route("::/0")], show(policy.toRoutes())],
    [[route("10.1.2.3")], ["0 4 a010203-a010203", "6 4 a010203-a010203"]],
    [[route("10.2.0.0/16", UDP)], []],
    [[route("10.1.0.0/15", UDP)], ["17 4 a010000-a01ffff"]],
    [[route("10.2.0.0/15", TCP)], ["6 4 a020000-a03ffff"]],
    [[route("11.0.0.0/8")], []],
    [[], []],
  ];
  for (const [scope, expected] of rows) {
    assert.deepEqual(show(policy.intersect(RouteSet.from(scope)).toRoutes()), expected, show(scope).join());
    assert.deepEqual(
      show(RouteSet.from(scope).intersect(policy).toRoutes()),
      expected,
      "the other way round",
    );
  }
});

Deno.test("a protocol that cannot stand in a packet is an error", () => {
  for (const protocol of [-1, 256, 1.5, NaN]) {
    assert.throws(() => RouteSet.from([route("10.0.0.0/8", protocol)]), RangeError, `${protocol}`);
  }
});

/** Addresses close to each other and to the edges of words, so that ranges touch, overlap and miss by one. */
const EDGES: Readonly<Record<IpVersion, readonly bigint[]>> = {
  4: [0n, 0xffffn, 0x7fff_fffen, 0x8000_0000n, 0xffff_fff0n],
  6: [0n, 0xffff_0a00_0000n, (1n << 32n) - 8n, (1n << 64n) - 8n, (1n << 96n) - 8n, (1n << 128n) - 16n],
};
const version = fc.constantFrom<IpVersion>(4, 6);
const value = (version: IpVersion) =>
  fc.tuple(fc.constantFrom(...EDGES[version]), fc.nat({ max: 15 })).map(([edge, n]) => edge + BigInt(n));
const protocol = fc.constantFrom(0, 1, TCP, UDP, 58, 255);
const anyRoute: fc.Arbitrary<Route> = version.chain((version) =>
  fc.record({
    range: fc.tuple(value(version), value(version)).map(([first, last]): IpRange => ({
      version,
      first,
      last,
    })),
    protocol,
  })
);
const anyRoutes = fc.array(anyRoute, { maxLength: 12 });
const anyPacket = version.chain((version) =>
  fc.tuple(value(version), fc.constantFrom(0, 1, TCP, UDP, 50, 58, 255)).map(([address, protocol]) => ({
    version,
    address,
    protocol,
  }))
);
const anyPackets = fc.array(anyPacket, { minLength: 20, maxLength: 60, size: "max" });

/** The set as plainly as it can be written. */
function naive(
  routes: readonly Route[],
  { version, address, protocol }: { version: IpVersion; address: bigint; protocol: number },
): boolean {
  return routes.some(({ range, protocol: allowed }) =>
    range.version === version && range.first <= address && address <= range.last &&
    (allowed === 0 || allowed === protocol || protocol === ICMP[version])
  );
}

Deno.test("any set allows what searching its list allows", () => {
  fc.assert(
    fc.property(anyRoutes, anyPackets, (routes, packets) => {
      const set = RouteSet.from(routes);
      for (const each of packets) {
        const to = packet(each.version, each.address, each.protocol);
        assert.equal(set.containsDestination(to), naive(routes, each));
        assert.equal(set.containsSource(swap(to)), naive(routes, each));
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("any set's routes are in order and disjoint, and make the same set again", () => {
  fc.assert(
    fc.property(anyRoutes, (routes) => {
      const set = RouteSet.from(routes);
      const listed = set.toRoutes();
      for (const [i, b] of listed.entries()) {
        const a = listed[i - 1];
        assert.ok(b.range.first <= b.range.last);
        if (a === undefined || a.range.version < b.range.version) continue;
        assert.equal(a.range.version, b.range.version);
        assert.ok(a.protocol < b.protocol || (a.protocol === b.protocol && a.range.last < b.range.first));
      }
      assert.deepEqual(RouteSet.from(listed).toRoutes(), listed);
    }),
  );
});

Deno.test("any intersection allows what both allow, but ICMP only where some protocol is common", () => {
  fc.assert(
    fc.property(anyRoutes, anyRoutes, anyPackets, (left, right, packets) => {
      const both = RouteSet.from(left).intersect(RouteSet.from(right));
      for (const each of packets) {
        const found = both.containsDestination(packet(each.version, each.address, each.protocol));
        const expected = naive(left, each) && naive(right, each);
        if (each.protocol === ICMP[each.version]) assert.ok(!found || expected);
        else assert.equal(found, expected);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("any set's prefixes cover its addresses and no others", () => {
  fc.assert(
    fc.property(anyRoutes, anyPackets, (routes, packets) => {
      const prefixes = RouteSet.from(routes).toPrefixes().map((prefix) => ({
        range: prefixRange(prefix),
        protocol: 0,
      }));
      for (const each of packets) {
        const icmp = { ...each, protocol: ICMP[each.version] };
        assert.equal(naive(prefixes, icmp), naive(routes, icmp));
      }
    }),
  );
});
