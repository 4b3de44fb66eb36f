import assert from "node:assert/strict";
import fc from "fast-check";
import { AbsentList, LeaseEntry } from "../../src/core/lease_entry.ts";

function entry(identity: string): LeaseEntry {
  return new LeaseEntry({ identity, 4: 2, 6: undefined, since: 1, lastSeen: 2 });
}

function names(list: AbsentList): string[] {
  const found: string[] = [];
  for (let each = list.first; each !== undefined; each = each.next) found.push(each.identity);
  return found;
}

Deno.test("a lease keeps its fields", () => {
  const { identity, 4: four, 6: six, since, lastSeen, isAbsent } = entry("a");
  assert.deepEqual([identity, four, six, since, lastSeen, isAbsent], ["a", 2, undefined, 1, 2, false]);
});

Deno.test("any sequence of joining and leaving keeps the order of joining", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 60 }), (moves) => {
      const list = new AbsentList();
      const entries = Array.from({ length: 6 }, (_, i) => entry(`${i}`));
      let expected: string[] = [];
      for (const move of moves) {
        const each = entries[move]!;
        if (each.isAbsent) {
          list.remove(each);
          list.remove(each);
          expected = expected.filter((name) => name !== each.identity);
        } else {
          list.append(each);
          expected.push(each.identity);
        }
        assert.deepEqual(names(list), expected);
      }
    }),
  );
});
