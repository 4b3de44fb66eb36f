/** Holds the project to its architecture rules, and each rule to its planted violations. */

import assert from "node:assert/strict";
import type { Rule } from "./rule.ts";
import { CITATION_RULES } from "./rules/citations.ts";
import { EXPORT_RULES } from "./rules/exports.ts";
import { FILE_RULES } from "./rules/files.ts";
import { LAYER_RULES } from "./rules/layers.ts";
import { PURITY_RULES } from "./rules/purity.ts";
import { TEST_RULES } from "./rules/tests.ts";
import { readTree, treeOf } from "./source_tree.ts";

const RULES: readonly Rule[] = [
  ...LAYER_RULES,
  ...PURITY_RULES,
  ...FILE_RULES,
  ...EXPORT_RULES,
  ...CITATION_RULES,
  ...TEST_RULES,
];

const PROJECT = readTreeLazily();

for (const rule of RULES) {
  Deno.test(`the project keeps the rule: ${rule.name}`, () => {
    const found = rule.check(PROJECT());
    assert.ok(found.length === 0, `${rule.name} (${rule.reason}):\n  ${found.join("\n  ")}`);
  });

  Deno.test(`the rule finds its planted violations: ${rule.name}`, () => {
    assert.ok(rule.violations.length > 0);
    for (const { files, says } of rule.violations) assert.match(rule.check(treeOf(files)).join("\n"), says);
    assert.deepEqual(rule.check(treeOf(rule.fine)), []);
  });
}

Deno.test("no two rules have one name", () => {
  assert.equal(new Set(RULES.map((rule) => rule.name)).size, RULES.length);
});

function readTreeLazily(): () => ReturnType<typeof readTree> {
  let tree: ReturnType<typeof readTree> | undefined;
  return () => tree ??= readTree(new URL("../..", import.meta.url).pathname);
}
