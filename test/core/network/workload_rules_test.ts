/** Rules admit the paths they name, and nothing that only looks like them. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { splitSpiffeId, workloadAttributes } from "../../../src/core/network/workload_rules.ts";

function attributes(rules: Readonly<Record<string, readonly string[]>>, path: string, disabled = false) {
  const list = Object.entries(rules).map(([path, roleAttributes]) => ({ path, roleAttributes }));
  return workloadAttributes({ rules: list, disabled }, path);
}

Deno.test("a rule matches whole segments: `*` one of them, a final `**` at least one more", () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ["/ns/prod/sa/web", "/ns/prod/sa/web", true],
    ["ns/prod/sa/web", "/ns/prod/sa/web", true],
    ["/ns/prod/sa/web", "/ns/prod/sa/web2", false],
    ["/ns/prod/sa/web", "/ns/prod/sa", false],
    ["/ns/*/sa/web", "/ns/prod/sa/web", true],
    ["/ns/*/sa/web", "/ns/prod/more/sa/web", false],
    ["/ns/*", "/ns/prod/sa", false],
    ["/ns/pro*", "/ns/prod", false],
    ["/ns/**", "/ns/prod/sa/web", true],
    ["/ns/**", "/ns", false],
    ["/ns/**/web", "/ns/prod/web", false],
    ["**", "/anything/at/all", true],
    ["", "/x", false],
  ];
  for (const [rule, path, isMatch] of cases) {
    assert.equal(attributes({ [rule]: ["a"] }, path) !== undefined, isMatch, `${rule} ${path}`);
  }
});

Deno.test("attributes of all matching rules add up; of a disabled domain there are none", () => {
  const rules = { "/a/*": ["x", "y"], "/a/b": ["y", "z"], "/c": ["no"] };
  assert.deepEqual(attributes(rules, "/a/b"), ["x", "y", "z"]);
  assert.equal(attributes(rules, "/a/b", true), undefined);
  assert.deepEqual(attributes({ "/a": [] }, "/a"), []);
});

Deno.test("splitSpiffeId() refuses what is no SPIFFE ID of a workload", () => {
  assert.deepEqual(splitSpiffeId("spiffe://d.example/a/b"), { domain: "d.example", path: "/a/b" });
  for (
    const text of [
      "",
      "spiffe://d",
      "spiffe://d/",
      "spiffe://d/a/",
      "spiffe://d//a",
      "spiffe://D/a",
      "spiffe:///a",
      "spiffe://d:1/a",
      "spiffe://u@d/a",
      "spiffe://d/a?q",
      "spiffe://d/a#f",
      "spiffe://d/%61",
      "spiffe://d/.",
      "spiffe://d/a/../b",
      "https://d/a",
      ` spiffe://d/a`,
      "spiffe://d/a\n",
      `spiffe://d/${"a".repeat(2048)}`,
    ]
  ) assert.equal(splitSpiffeId(text), undefined, JSON.stringify(text));
  fc.assert(fc.property(fc.string(), (text) => {
    const parts = splitSpiffeId(text);
    assert.ok(parts === undefined || `spiffe://${parts.domain}${parts.path}` === text);
  }));
});
