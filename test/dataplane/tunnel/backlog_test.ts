import assert from "node:assert/strict";
import fc from "fast-check";
import { Backlog } from "../../../src/dataplane/tunnel/backlog.ts";
import { FakeLink } from "./fakes.ts";

function marked(mark: number, size = 40): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setUint32(0, mark);
  return bytes;
}

function marks(link: FakeLink): number[] {
  return link.sent.map((sent) => new DataView(sent.buffer).getUint32(0));
}

Deno.test("a backlog is a bounded queue, whatever comes and goes", () => {
  const step = fc.oneof(
    fc.record({ add: fc.integer({ min: 1, max: 150 }) }),
    fc.record({ send: fc.integer({ min: 0, max: 150 }) }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const backlog = new Backlog();
    const link = new FakeLink();
    link.room = 0;
    const expected: number[] = [];
    let mark = 0;
    for (const each of steps) {
      if ("add" in each) {
        for (let i = 0; i < each.add; i++) {
          if (backlog.add(marked(++mark))) expected.push(mark);
          else assert.ok(backlog.size >= 128, "Full only when at least one half is");
        }
        assert.ok(backlog.size <= 256);
      } else {
        const before = link.sent.length;
        link.room = each.send;
        const waited = backlog.size;
        const state = backlog.sendTo(link);
        const moved = link.sent.length - before;
        assert.equal(moved, Math.min(waited, each.send));
        assert.equal(state, moved === waited ? "empty" : moved > 0 ? "moved" : "stuck");
        assert.equal(backlog.size, waited - moved);
      }
    }
    link.room = Infinity;
    assert.equal(backlog.sendTo(link), "empty");
    assert.deepEqual(marks(link), expected);
  }));
});

Deno.test("a backlog is bounded in bytes too", () => {
  const backlog = new Backlog();
  let bytes = 0;
  for (let i = 0; backlog.add(marked(i, 9_000)); i++) bytes += 9_000;
  assert.ok(bytes <= 2 * 128 * 1_536);
});

Deno.test("clear() tells how many packets were lost", () => {
  const backlog = new Backlog();
  for (let i = 0; i < 150; i++) backlog.add(marked(i));
  assert.equal(backlog.clear(), 150);
  assert.equal(backlog.size, 0);
  const link = new FakeLink();
  backlog.add(marked(7));
  assert.equal(backlog.sendTo(link), "empty");
  assert.deepEqual(marks(link), [7]);
});
