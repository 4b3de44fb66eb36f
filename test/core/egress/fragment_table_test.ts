/** Later fragments find the flow of their first one, and of no other packet's. */

import assert from "node:assert/strict";
import { Flow, metaOf } from "../../../src/core/egress/flow.ts";
import { FragmentTable } from "../../../src/core/egress/fragment_table.ts";
import { packet, type PacketSpec } from "../../support/egress.ts";

const FIRST: PacketSpec = { to: "192.0.2.1", protocol: "UDP", port: 53, more: true, fragment: 9 };
const FIRST6: PacketSpec = { ...FIRST, to: "2001:db8::1" };

function noted(spec: PacketSpec): { table: FragmentTable; flow: Flow } {
  const view = packet(spec);
  const flow = new Flow(view, { meta: metaOf(view), ports: 0, now: 0 });
  flow.idleClass = 0;
  const table = new FragmentTable();
  table.note(view, flow, 0);
  return { table, flow };
}

for (const first of [FIRST, FIRST6]) {
  const later: PacketSpec = { ...first, offset: 1_480 };
  Deno.test(`a later fragment to ${first.to} finds its flow, each neighbour nothing`, () => {
    const { table, flow } = noted(first);
    assert.equal(table.find(packet(later), 0), flow);
    assert.equal(table.find(packet({ ...later, offset: 8, more: true }), 30_000), flow);
    const isV6 = first.to.includes(":");
    for (
      const neighbour of [
        { ...later, fragment: 10 },
        { ...later, to: isV6 ? "2001:db8::2" : "192.0.2.2" },
        { ...later, to: isV6 ? "2001:db8:0:1::1" : "192.0.3.1" },
        { ...later, from: isV6 ? "fd00:100::b" : "10.100.0.11" },
        ...(isV6 ? [] : [{ ...later, protocol: "TCP" as const }]),
      ]
    ) assert.equal(table.find(packet(neighbour), 0), undefined, JSON.stringify(neighbour));
    assert.equal(table.find(packet(later), 30_001), undefined, "too late");
  });
}

Deno.test("the protocol behind extension headers is the first fragment's: of IPv6, later ones do not tell it", () => {
  const { table, flow } = noted(FIRST6);
  assert.equal(table.find(packet({ ...FIRST6, protocol: 60, offset: 1_480 }), 0), flow);
});

Deno.test("a flow that is in no table any more is not found", () => {
  const { table, flow } = noted(FIRST);
  flow.idleClass = -1;
  assert.equal(table.find(packet({ ...FIRST, offset: 1_480 }), 0), undefined);
});

Deno.test("a table that noted nothing finds nothing, and one that noted much stays bounded and right", () => {
  assert.equal(new FragmentTable().find(packet({ ...FIRST, offset: 8 }), 0), undefined);
  const { table, flow } = noted(FIRST);
  let found = 0;
  for (let fragment = 0; fragment < 5_000; fragment++) table.note(packet({ ...FIRST, fragment }), flow, 0);
  for (let fragment = 0; fragment < 5_000; fragment++) {
    if (table.find(packet({ ...FIRST, fragment, offset: 8 }), 0) !== undefined) found++;
  }
  assert.equal(found, 256);
});

Deno.test("the fragments of one packet are found whatever three others' come between", () => {
  const { flow } = noted(FIRST);
  for (let fragment = 0; fragment < 1_000; fragment++) {
    const table = new FragmentTable();
    // These share a set whatever is in it: identification is all that differs, by what the hash folds away.
    const others = [1, 2, 3].map((n) => fragment ^ (n << 6) ^ n);
    for (const id of [fragment, ...others]) table.note(packet({ ...FIRST, fragment: id }), flow, 0);
    for (const id of [fragment, ...others]) {
      assert.equal(table.find(packet({ ...FIRST, fragment: id, offset: 8 }), 0), flow);
    }
    table.note(packet({ ...FIRST, fragment: fragment ^ (4 << 6) ^ 4 }), flow, 0);
    assert.equal(table.find(packet({ ...FIRST, fragment, offset: 8 }), 0), undefined, "the oldest gives way");
  }
});
