/** A number stands for one name for as long as anybody may remember the answer. */

import assert from "node:assert/strict";
import { NAME_LIFE_MS, NameAddresses } from "../../../src/core/service/name_addresses.ts";
import { NAME_INDEXES } from "../../../src/core/service/virtual_address.ts";

const NOW = 1_800_000_000_000;

Deno.test("a name keeps its number, two names never share one, and all lie in their range", () => {
  const names = new NameAddresses();
  const indexes = new Map<string, number>();
  for (let i = 0; i < 20_000; i++) {
    const host = `h${i}.example`;
    const index = names.indexOf(host, NOW)!;
    assert.ok(index >= NAME_INDEXES.first && index <= NAME_INDEXES.last);
    indexes.set(host, index);
  }
  assert.equal(new Set(indexes.values()).size, 20_000);
  for (const [host, index] of indexes) {
    assert.equal(names.indexOf(host, NOW + 1), index);
    assert.equal(names.hostOf(index), host);
  }
});

Deno.test("a number in use is never given away, however many names are asked for", () => {
  const names = new NameAddresses({ max: 2 });
  const first = names.indexOf("a.example", NOW)!;
  names.indexOf("b.example", NOW + 1);
  assert.equal(names.indexOf("c.example", NOW + NAME_LIFE_MS - 1), undefined);
  assert.equal(names.hostOf(first), "a.example");
});

Deno.test("the least recently used name gives way an hour after its last answer or flow", () => {
  const names = new NameAddresses({ max: 2 });
  const first = names.indexOf("a.example", NOW)!;
  const second = names.indexOf("b.example", NOW)!;
  // A flow to `a` keeps it.
  names.hostOf(first, NOW + NAME_LIFE_MS);
  const third = names.indexOf("c.example", NOW + NAME_LIFE_MS)!;
  assert.equal(names.hostOf(first), "a.example");
  assert.equal(names.hostOf(third), "c.example");
  if (third !== second) assert.equal(names.hostOf(second), undefined);
  assert.equal(names.indexOf("b.example", NOW + NAME_LIFE_MS), undefined);
});

Deno.test("looking up whose a number is does not keep it", () => {
  const names = new NameAddresses({ max: 1 });
  const first = names.indexOf("a.example", NOW)!;
  names.hostOf(first);
  assert.notEqual(names.indexOf("b.example", NOW + NAME_LIFE_MS), undefined);
});

Deno.test("a clock that is set back takes no number from anybody", () => {
  const names = new NameAddresses({ max: 1 });
  const first = names.indexOf("a.example", NOW)!;
  names.indexOf("a.example", NOW - 10 * NAME_LIFE_MS);
  assert.equal(names.indexOf("b.example", NOW), undefined);
  assert.equal(names.hostOf(first), "a.example");
});
