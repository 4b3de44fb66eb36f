/** Names and wildcards, each with its neighbours. */

import assert from "node:assert/strict";
import { NameMatcher } from "../../../src/core/egress/name_matcher.ts";

const TABLE: [pattern: string, name: string, matches: boolean][] = [
  ["example.com", "example.com", true],
  ["example.com", "www.example.com", false],
  ["example.com", "example.com.evil.net", false],
  ["example.com", "xexample.com", false],
  ["*.example.com", "www.example.com", true],
  ["*.example.com", "a.b.c.example.com", true],
  ["*.example.com", "example.com", false],
  ["*.example.com", "evilexample.com", false],
  ["*.example.com", ".example.com", false],
  ["*.example.com", "www.example.com.evil.net", false],
  ["*.example.com", "www.example.co", false],
  ["*.com", "example.com", true],
  ["*.com", "com", false],
];

for (const [pattern, name, matches] of TABLE) {
  Deno.test(`${pattern} ${matches ? "means" : "does not mean"} ${JSON.stringify(name)}`, () => {
    assert.equal(new NameMatcher([pattern]).matches(name), matches);
    assert.equal(new NameMatcher(["other.org", "*.other.org", pattern]).matches(name), matches);
  });
}

Deno.test("no pattern means nothing", () => {
  for (const name of ["", "a", "a.b"]) assert.equal(new NameMatcher([]).matches(name), false);
});
