import assert from "node:assert/strict";
import fc from "fast-check";
import { FlowEntry, FlowTable } from "../../../src/dataplane/capture/flow_table.ts";
import { newPacketView } from "../../../src/wire/packet/packet_view.ts";

const word = fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff);
const port = fc.constantFrom(0, 1, 443, 65_535);
const name = fc.record({ src0: word, src3: word, dst0: word, dst3: word, srcPort: port, dstPort: port });

Deno.test("FlowTable finds what was added and nothing else, as a plain list does", () => {
  fc.assert(fc.property(fc.array(fc.record({ name, adds: fc.boolean() }), { maxLength: 60 }), (steps) => {
    const table = new FlowTable();
    const list: FlowEntry[] = [];
    for (const { name, adds } of steps) {
      const view = { ...newPacketView(), version: 6 as const, protocol: 17, ...name };
      const known = list.find((entry) => entry.matches(view));
      assert.equal(table.find(view), known);
      if (adds && known === undefined) {
        const entry = new FlowEntry(view);
        table.add(entry);
        list.push(entry);
      } else if (!adds && known !== undefined) {
        table.delete(known);
        table.delete(known);
        list.splice(list.indexOf(known), 1);
      }
      assert.equal(table.size, list.length);
      assert.deepEqual(new Set(table), new Set(list));
    }
    // Who walks may empty it.
    for (const entry of table) table.delete(entry);
    assert.equal(table.size, 0);
  }));
});

Deno.test("FlowTable tells flows apart by protocol and by every word of their addresses", () => {
  const view = { ...newPacketView(), protocol: 6, src3: 1, dst3: 2, srcPort: 3, dstPort: 4 };
  const table = new FlowTable();
  const entry = new FlowEntry(view);
  table.add(entry);
  assert.equal(table.find({ ...view }), entry);
  for (
    const field of [
      "protocol",
      "src0",
      "src1",
      "src2",
      "src3",
      "dst0",
      "dst1",
      "dst2",
      "dst3",
      "srcPort",
      "dstPort",
    ] as const
  ) {
    assert.equal(table.find({ ...view, [field]: view[field] ^ 1 }), undefined, field);
  }
});
