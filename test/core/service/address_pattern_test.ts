/** Lists of addresses have one form for each thing they may name, and name nothing else. */

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  addressPatternSchema,
  canonicalHost,
  formatAddressPattern,
  readAddressPattern,
} from "../../../src/core/service/address_pattern.ts";

Deno.test("canonicalHost() refuses what no resolver takes for a name", () => {
  const label = "a".repeat(63);
  for (
    const text of [
      "",
      ".",
      "a..b",
      ".a",
      "-a",
      "a-",
      "a b",
      "a/b",
      "a:80",
      "*.a",
      "ä.example",
      "\u212Aelvin.example",
      "127.1",
      "1",
      "a.0x7f",
      `${label}a.b`,
      [label, label, label, label].join("."),
    ]
  ) assert.equal(canonicalHost(text), undefined, text);
  assert.equal(canonicalHost("DB_1.Example."), "db_1.example");
});

Deno.test("addressPatternSchema writes each entry in its one form", () => {
  for (
    const [text, form] of [
      ["Web.Example.", "web.example"],
      ["*.Web.Example", "*.web.example"],
      ["10.1.2.3/8", "10.0.0.0/8"],
      ["10.1.2.3/32", "10.1.2.3"],
      ["FD00::0001", "fd00::1"],
      ["fd00::1/64", "fd00::/64"],
    ]
  ) assert.equal(addressPatternSchema.parse(text), form);
  for (const text of ["*", "*.", "*.*.a", "a.*", "10.0.0.0/33", "10.0.0.256", "http://a", "a,b", ""]) {
    assert.ok(!addressPatternSchema.safeParse(text).success, text);
  }
});

Deno.test("an entry in its one form stays as it is", () => {
  fc.assert(fc.property(fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6(), fc.string()), (text) => {
    const pattern = readAddressPattern(text);
    if (pattern === undefined) return;
    const form = formatAddressPattern(pattern);
    assert.deepEqual(readAddressPattern(form), pattern);
    assert.equal(addressPatternSchema.parse(form), form);
  }));
});
