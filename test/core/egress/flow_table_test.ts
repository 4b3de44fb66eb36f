/** The flow table against a plain map, its lists of last use, and keys that were chosen to collide. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { Flow, metaOf } from "../../../src/core/egress/flow.ts";
import { FlowTable, IDLE_CLASS, IDLE_TIMES } from "../../../src/core/egress/flow_table.ts";
import { packet, type PacketSpec, reply } from "../../support/egress.ts";

function flowOf(spec: PacketSpec, now = 0): Flow {
  const view = packet(spec);
  return new Flow(view, { meta: metaOf(view), ports: view.srcPort << 16 | view.dstPort, now });
}

function find(table: FlowTable, spec: PacketSpec): { outbound: Flow | undefined; inbound: Flow | undefined } {
  const there = packet(spec);
  const back = reply(spec);
  return {
    outbound: table.findOutbound(there, metaOf(there), there.srcPort << 16 | there.dstPort),
    inbound: table.findInbound(back, metaOf(back), back.dstPort << 16 | back.srcPort),
  };
}

/** Few values of each field, so that keys often differ in one field alone. */
const aSpec: fc.Arbitrary<PacketSpec> = fc.record({
  to: fc.constantFrom(
    "192.0.2.1",
    "192.0.2.2",
    "203.0.113.1",
    "2001:db8::1",
    "2001:db8:1::1",
    "2001:db8::1:0:1",
  ),
  sport: fc.constantFrom(1, 40_000, 65_535),
  port: fc.constantFrom(1, 443, 65_535),
  protocol: fc.constantFrom("TCP" as const, "UDP" as const, "ICMP" as const, "ICMPV6" as const, 47),
  id: fc.constantFrom(0, 1, 443),
  icmpType: fc.constantFrom(0, 8, 13, 128, 129),
});

Deno.test("a table finds exactly the flows that a plain map would, both ways, while flows come and go", () => {
  fc.assert(fc.property(
    fc.array(fc.tuple(fc.boolean(), aSpec), { maxLength: 200 }),
    fc.integer(),
    (steps, seed) => {
      const table = new FlowTable(seed);
      const model = new Map<string, Flow>();
      for (const [adds, spec] of steps) {
        const flow = flowOf(spec);
        const key = `${flow.meta} ${flow.ports} ${flow.source} ${flow.destination}`;
        const known = model.get(key);
        assert.equal(find(table, spec).outbound, known);
        if (adds && known === undefined) {
          model.set(key, flow);
          table.add(flow, IDLE_CLASS.UDP);
        } else if (!adds && known !== undefined) {
          model.delete(key);
          table.remove(known);
        }
        assert.equal(table.size, model.size);
        assert.deepEqual(new Set(table.flows()), new Set(model.values()));
        const { outbound, inbound } = find(table, spec);
        assert.equal(outbound, model.get(key));
        // The answer to another ICMP message than an echo has no flow.
        if (!["ICMP", "ICMPV6"].includes(spec.protocol as string)) assert.equal(inbound, model.get(key));
      }
    },
  ));
});

Deno.test("lists give what was used longest ago, and expiry follows each class's idle time", () => {
  for (const [name, idleClass] of Object.entries(IDLE_CLASS)) {
    const table = new FlowTable(1);
    const first = flowOf({ to: "192.0.2.1" });
    const second = flowOf({ to: "192.0.2.2" });
    table.add(first, idleClass);
    table.add(second, idleClass);
    table.touch(first, 5_000);
    const idle = IDLE_TIMES[idleClass]!;
    assert.equal(table.expired(idle), undefined, `${name}: not before its time`);
    assert.equal(table.expired(idle + 1_000), second, name);
    table.remove(second);
    assert.equal(table.expired(idle + 5_999), undefined, name);
    assert.equal(table.expired(idle + 6_000), first, name);
    table.remove(first);
    assert.equal(table.expired(Infinity), undefined);
  }
});

Deno.test("a flow that is used now and then never expires", () => {
  const table = new FlowTable(1);
  const flow = flowOf({ to: "192.0.2.1" });
  table.add(flow, IDLE_CLASS.ICMP);
  for (let now = 0; now < 600_000; now += 29_999) {
    assert.equal(table.expired(now), undefined);
    table.touch(flow, now);
  }
});

Deno.test("what is least needed: denied, then closing, then whatever was idle longest", () => {
  const table = new FlowTable(1);
  const flows = ["TCP", "UDP", "ICMP", "CLOSING", "DENIED"].map((name, index) => {
    const flow = flowOf({ to: `192.0.2.${index}` }, index);
    table.add(flow, IDLE_CLASS[name as keyof typeof IDLE_CLASS]);
    return flow;
  });
  assert.equal(table.oldestDenied(), flows[4]);
  table.touch(flows[0]!, 10_000);
  const order: number[] = [];
  for (let flow = table.leastNeeded(); flow !== undefined; flow = table.leastNeeded()) {
    order.push(flows.indexOf(flow));
    table.remove(flow);
  }
  assert.deepEqual(order, [4, 3, 1, 2, 0]);
  assert.equal(table.oldestDenied(), undefined);
});

Deno.test("reclass() moves a flow between lists once", () => {
  const table = new FlowTable(1);
  const flow = flowOf({ to: "192.0.2.1" });
  table.add(flow, IDLE_CLASS.TCP);
  table.reclass(flow, IDLE_CLASS.CLOSING, 100);
  table.reclass(flow, IDLE_CLASS.CLOSING, 9_000);
  assert.equal(table.expired(11_099), undefined);
  assert.equal(table.expired(11_100), flow);
});

Deno.test("buckets depend on the seed: flows that share one under a seed are apart under another", () => {
  const specs = Array.from({ length: 4_096 }, (_, i): PacketSpec => ({ to: "192.0.2.1", sport: 1_024 + i }));
  const hashes = (seed: number) => {
    const table = new FlowTable(seed);
    return specs.map((spec) => {
      const flow = flowOf(spec);
      table.add(flow, IDLE_CLASS.TCP);
      return flow.hash & 63;
    });
  };
  const known = hashes(1);
  const sharing = known.flatMap((bucket, index) => bucket === known[0] ? [index] : []);
  assert.ok(sharing.length > 20 && sharing.length < 200, `${sharing.length} of 4096 in one of 64 buckets`);
  const unknown = hashes(2);
  const apart = new Set(sharing.map((index) => unknown[index]));
  assert.ok(apart.size > 10, `${apart.size} buckets`);
});

Deno.test("the upper bits of every field choose the bucket as well as the lower", () => {
  const addresses = Array.from({ length: 64 }, (_, i) => i);
  const families: Record<string, PacketSpec[]> = {
    "IPv4 address": addresses.map((i) => ({ to: `${i * 2 + 1}.0.2.1` })),
    "destination port": addresses.map((i) => ({ to: "192.0.2.1", port: i << 10 })),
    "source port": addresses.map((i) => ({ to: "192.0.2.1", sport: i << 10 })),
    "first word": addresses.map((i) => ({ to: `${(i << 10).toString(16)}::1` })),
    "second word": addresses.map((i) => ({ to: `2001:db8:${(i << 10).toString(16)}::1` })),
    "third word": addresses.map((i) => ({ to: `2001:db8:0:0:${(i << 10).toString(16)}::1` })),
    "fourth word": addresses.map((i) => ({ to: `2001:db8::${(i << 10).toString(16)}:0` })),
  };
  for (const [name, specs] of Object.entries(families)) {
    const table = new FlowTable(7);
    const buckets = new Set(specs.map((spec) => {
      const flow = flowOf(spec);
      table.add(flow, IDLE_CLASS.TCP);
      return flow.hash & 1_023;
    }));
    assert.ok(buckets.size > 50, `${name}: 64 flows in ${buckets.size} buckets`);
  }
});

Deno.test("every word of both addresses counts, also where buckets are the same", () => {
  const spec: PacketSpec = { from: "fd00:100::a", to: "2001:db8::1" };
  const neighbours: PacketSpec[] = [
    ...["fd00:101::a", "fd00:100:0:1::a", "fd00:100:0:0:1::a", "fd00:100::b"].map((from) => ({
      ...spec,
      from,
    })),
    ...["2001:db9::1", "2001:db8:0:1::1", "2001:db8:0:0:1::1", "2001:db8::2"].map((to) => ({ ...spec, to })),
  ];
  for (let seed = 0; seed < 300; seed++) {
    const table = new FlowTable(seed);
    const flow = flowOf(spec);
    table.add(flow, IDLE_CLASS.TCP);
    assert.deepEqual(find(table, spec), { outbound: flow, inbound: flow });
    for (const neighbour of neighbours) {
      assert.deepEqual(find(table, neighbour), { outbound: undefined, inbound: undefined });
    }
  }
});
