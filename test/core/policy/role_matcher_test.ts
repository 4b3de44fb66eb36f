/** The bit sets beneath policy decisions, at the word boundaries. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { firstCommon, RoleMatcher } from "../../../src/core/policy/role_matcher.ts";

function setOf(indexes: readonly number[], words: number): Uint32Array {
  const set = new Uint32Array(words);
  for (const index of indexes) set[index >>> 5]! |= 1 << (index & 31);
  return set;
}

Deno.test("firstCommon() finds each bit of each word, the top one included", () => {
  for (let index = 0; index < 96; index++) {
    assert.equal(firstCommon(setOf([index], 3), setOf([index], 3)), index);
    assert.equal(firstCommon(setOf([index], 3), setOf([(index + 1) % 96], 3)), -1);
  }
  assert.equal(firstCommon(setOf([], 0), setOf([], 0)), -1);
});

Deno.test("firstCommon() is the least element of the intersection", () => {
  const indexes = fc.uniqueArray(fc.nat(95));
  fc.assert(fc.property(indexes, indexes, (a, b) => {
    const common = a.filter((index) => b.includes(index));
    assert.equal(firstCommon(setOf(a, 3), setOf(b, 3)), common.length === 0 ? -1 : Math.min(...common));
  }));
});

Deno.test("match() of no lists, and of lists that select nothing, is empty", () => {
  const everyone = { names: ["n"], attributes: [["x"]], inAll: true };
  assert.deepEqual([...new RoleMatcher([]).match(everyone)], []);
  const silent = new RoleMatcher([
    { roles: [], semantic: "AnyOf" },
    { roles: [], semantic: "AllOf" },
    { roles: ["#", "@", "", "x", "n", "all"], semantic: "AnyOf" },
    { roles: ["#", "@", "", "x", "n", "all"], semantic: "AllOf" },
  ]);
  assert.deepEqual([...silent.match(everyone)], [0]);
});

Deno.test("match() does not let one entity's answer leak into the next", () => {
  const matcher = new RoleMatcher([{ roles: ["#all"], semantic: "AnyOf" }, {
    roles: ["@a"],
    semantic: "AnyOf",
  }]);
  assert.deepEqual([...matcher.match({ names: ["a"], attributes: [], inAll: true })], [0b11]);
  assert.deepEqual([...matcher.match({ names: ["b"], attributes: [], inAll: true })], [0b01]);
  assert.deepEqual([...matcher.match({ names: ["b"], attributes: [], inAll: false })], [0b00]);
});
