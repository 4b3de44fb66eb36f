import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp, formatPrefix, type IpPrefix, prefixOf } from "../../../src/base/ip.ts";
import { readRoutes } from "../../../src/io/network/ip_json.ts";
import {
  coveredBy,
  outsideRoute,
  type Pin,
  planRoutes,
  type RouteWish,
} from "../../../src/io/network/route_plan.ts";
import { ip, prefix, TUNNEL } from "./values.ts";

const EMPTY: RouteWish = { interfaceName: TUNNEL, present: [], wanted: [], pins: [], pinnedBefore: [] };
const HOP = { device: "eth0", gateway: ip("192.0.2.1") };

Deno.test("planRoutes() pins first, then routes; takes back routes first, then pins", () => {
  const wish = {
    ...EMPTY,
    wanted: [prefix("0.0.0.0/1")],
    pins: [{ address: ip("10.0.0.5"), hop: HOP }],
  };
  assert.deepEqual(lines(wish), [
    "route add 10.0.0.5/32 via 192.0.2.1 dev eth0 onlink proto 71",
    "route add 0.0.0.0/1 dev ginnel7 proto 71",
  ]);
  const present = routes(
    { dst: "0.0.0.0/1", dev: TUNNEL, protocol: "71" },
    { dst: "10.0.0.5", gateway: "192.0.2.1", dev: "eth0", protocol: "71" },
  );
  assert.deepEqual(lines({ ...EMPTY, present, pinnedBefore: [ip("10.0.0.5")] }), [
    "route del 0.0.0.0/1 dev ginnel7 proto 71",
    "route del 10.0.0.5/32 via 192.0.2.1 dev eth0 onlink proto 71",
  ]);
  assert.deepEqual(lines({ ...wish, present }), []);
});

Deno.test("planRoutes() replaces a pin whose way changed in one command", () => {
  const present = routes({ dst: "10.0.0.5", gateway: "192.0.2.1", dev: "eth0", protocol: "71" });
  const pins = [{ address: ip("10.0.0.5"), hop: { device: "wlan0", gateway: ip("198.51.100.1") } }];
  assert.deepEqual(lines({ ...EMPTY, present, pins }), [
    "route replace 10.0.0.5/32 via 198.51.100.1 dev wlan0 onlink proto 71",
  ]);
});

Deno.test("planRoutes() refuses packets to a relay that has no way outside", () => {
  assert.deepEqual(lines({ ...EMPTY, pins: [{ address: ip("10.0.0.5") }] }), [
    "route add unreachable 10.0.0.5/32 proto 71",
  ]);
  const present = routes({ type: "unreachable", dst: "10.0.0.5", protocol: "71" });
  assert.deepEqual(lines({ ...EMPTY, present, pins: [{ address: ip("10.0.0.5") }] }), []);
  assert.deepEqual(lines({ ...EMPTY, present, pins: [{ address: ip("10.0.0.5"), hop: HOP }] }), [
    "route replace 10.0.0.5/32 via 192.0.2.1 dev eth0 onlink proto 71",
  ]);
});

Deno.test("planRoutes() writes IPv6 with a metric, neighbours without a gateway, IPv4 by an IPv6 gateway", () => {
  const pins: Pin[] = [
    { address: ip("2001:db8::5"), hop: { device: "eth0", gateway: ip("fe80::1") } },
    { address: ip("10.0.0.6"), hop: { device: "eth0" } },
    { address: ip("10.0.0.7"), hop: { device: "eth0", gateway: ip("fe80::1") } },
  ];
  assert.deepEqual(lines({ ...EMPTY, pins, wanted: [prefix("::/1")] }), [
    "route add 2001:db8::5/128 via fe80::1 dev eth0 onlink proto 71 metric 1",
    "route add 10.0.0.6/32 dev eth0 proto 71",
    "route add 10.0.0.7/32 via inet6 fe80::1 dev eth0 onlink proto 71",
    "route add ::/1 dev ginnel7 proto 71 metric 1",
  ]);
});

Deno.test("planRoutes() takes nobody's route away, and tells of it", () => {
  const present = routes({ dst: "10.0.0.0/8", dev: "eth0", protocol: "kernel" });
  const plan = planRoutes({ ...EMPTY, present, wanted: [prefix("10.0.0.0/8"), prefix("10.1.0.0/16")] });
  assert.deepEqual(plan.steps.map(({ run }) => run), ["route add 10.1.0.0/16 dev ginnel7 proto 71"]);
  assert.deepEqual(plan.conflicts.map(formatPrefix), ["10.0.0.0/8"]);
});

Deno.test("planRoutes() does not mind an equal route of lower rank", () => {
  const present = routes({ dst: "10.0.0.0/8", dev: "eth0", protocol: "static", metric: 100 });
  assert.deepEqual(lines({ ...EMPTY, present, wanted: [prefix("10.0.0.0/8")] }), [
    "route add 10.0.0.0/8 dev ginnel7 proto 71",
  ]);
});

Deno.test("planRoutes() leaves alone what is not ours by number, interface and address at once", () => {
  const present = routes(
    { dst: "10.1.0.0/16", dev: TUNNEL, protocol: "static" },
    { dst: "10.2.0.0/16", dev: "ginnel8", protocol: "71" },
    { dst: "10.0.0.9", gateway: "192.0.2.1", dev: "eth0", protocol: "71" },
    { dst: "10.0.0.5", gateway: "192.0.2.1", dev: "eth0", protocol: "static" },
    { dst: "10.0.0.0/24", gateway: "192.0.2.1", dev: "eth0", protocol: "71" },
  );
  assert.deepEqual(lines({ ...EMPTY, present, pinnedBefore: [ip("10.0.0.5"), ip("10.0.0.0")] }), []);
});

Deno.test("planRoutes() asks for a prefix once, however often it is wanted", () => {
  assert.equal(lines({ ...EMPTY, wanted: [prefix("10.0.0.0/8"), prefix("10.0.0.0/8")] }).length, 1);
});

Deno.test("a plan executed on a model of the kernel leads to the wish; undone, to where it began", () => {
  const prefixes = fc.uniqueArray(fc.integer({ min: 0, max: 40 }).map((n) => prefix(`10.${n}.0.0/16`)), {
    selector: formatPrefix,
  });
  fc.assert(fc.property(prefixes, prefixes, (first, second) => {
    const table = new Set<string>();
    const present = () => routes(...[...table].map((dst) => ({ dst, dev: TUNNEL, protocol: "71" })));
    const execute = (line: string) => {
      const [, verb = "", dst = ""] = line.split(" ");
      if (verb === "add") assert.ok(!table.has(dst)), table.add(dst);
      else assert.ok(table.delete(dst), "deletes what is there");
    };
    for (const wanted of [first, second]) {
      const before = [...table].toSorted();
      const { steps } = planRoutes({ ...EMPTY, present: present(), wanted });
      steps.forEach(({ run }) => execute(run));
      assert.deepEqual([...table].toSorted(), wanted.map(formatPrefix).toSorted());
      steps.toReversed().forEach(({ undo }) => execute(undo));
      assert.deepEqual([...table].toSorted(), before);
      steps.forEach(({ run }) => execute(run));
    }
  }));
});

Deno.test("coveredBy() names only what a wanted prefix would catch, once", () => {
  const pinned = ["192.0.2.1", "10.0.0.5", "10.0.0.5", "2001:db8::1"].map(ip);
  assert.deepEqual(coveredBy([prefix("10.0.0.0/8")], pinned).map(formatIp), ["10.0.0.5"]);
  assert.deepEqual(coveredBy([prefix("::/1")], pinned).map(formatIp), ["2001:db8::1"]);
  assert.deepEqual(coveredBy([], pinned), []);
});

Deno.test("outsideRoute() sees neither the tunnel nor our pins", () => {
  const present = routes(
    { dst: "default", gateway: "192.0.2.1", dev: "eth0", protocol: "dhcp", metric: 100 },
    { dst: "default", gateway: "198.51.100.1", dev: "wlan0", protocol: "dhcp", metric: 600 },
    { dst: "0.0.0.0/1", dev: TUNNEL, protocol: "71" },
    { dst: "10.0.0.5", gateway: "203.0.113.1", dev: "eth9", protocol: "71" },
  );
  const table = { interfaceName: TUNNEL, present, pinnedBefore: [] };
  assert.deepEqual(outsideRoute(ip("10.0.0.5"), table)?.hop, HOP);
  assert.equal(outsideRoute(ip("2001:db8::5"), table), undefined);
});

Deno.test("outsideRoute() agrees with a naive search on any table", () => {
  const route = fc.record({
    dst: fc.tuple(fc.integer({ min: 0, max: 7 }), fc.integer({ min: 0, max: 32 })).map(([n, length]) =>
      formatPrefix(prefixOf(ip(`10.0.0.${n}`), length))
    ),
    metric: fc.integer({ min: 0, max: 2 }),
    dev: fc.constantFrom("eth0", "eth1", TUNNEL),
  });
  fc.assert(fc.property(fc.array(route), fc.integer({ min: 0, max: 7 }), (entries, n) => {
    const address = ip(`10.0.0.${n}`);
    const present = routes(...entries);
    const found = outsideRoute(address, { interfaceName: TUNNEL, present, pinnedBefore: [] });
    const rank = (entry: { prefix: IpPrefix; metric: number }) => [entry.prefix.length, -entry.metric];
    const fitting = present.filter((entry) =>
      entry.hop?.device !== TUNNEL && prefixOf(address, entry.prefix.length).first === entry.prefix.first
    );
    if (found === undefined) return assert.deepEqual(fitting, []);
    assert.ok(fitting.includes(found));
    for (const other of fitting) {
      const [length = 0, metric = 0] = rank(other);
      const [best = 0, bestMetric = 0] = rank(found);
      assert.ok(best > length || (best === length && bestMetric >= metric));
    }
  }));
});

function routes(...entries: readonly Record<string, unknown>[]) {
  return readRoutes(JSON.stringify(entries), 4);
}

function lines(wish: RouteWish): string[] {
  return planRoutes(wish).steps.map(({ run }) => run);
}
