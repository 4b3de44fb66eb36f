/** YAML with places; what YAML allows and a policy must not hold is refused. */

import assert from "node:assert/strict";
import { locateKey, locateValue, SourceFault } from "../../src/config/source_text.ts";
import { parseYamlSource } from "../../src/config/yaml_source.ts";

Deno.test("parseYamlSource() reads YAML 1.2, in which no and on are text", () => {
  const { value } = parseYamlSource("a: no\nb: [on, 1, true, null]\nc: {d: 'x'} # why\n");
  assert.deepEqual(value, { a: "no", b: ["on", 1, true, null], c: { d: "x" } });
});

Deno.test("parseYamlSource() places values and keys", () => {
  const text = "a:\n  - b: x\n    c: [1, 2]\nempty:\n";
  const { root, value } = parseYamlSource(text);
  assert.deepEqual(value, { a: [{ b: "x", c: [1, 2] }], empty: null });
  assert.equal(locateValue(root, ["a", 0, "b"]), text.indexOf("x"));
  assert.equal(locateKey(root, ["a", 0, "c"]), text.indexOf("c:"));
  assert.equal(locateValue(root, ["a", 0, "c", 1]), text.indexOf("2"));
  assert.equal(locateKey(root, ["empty"]), text.indexOf("empty"));
});

Deno.test("parseYamlSource() follows anchors for values", () => {
  const { value } = parseYamlSource("a: &x [1]\nb: *x\n");
  assert.deepEqual(value, { a: [1], b: [1] });
});

Deno.test("parseYamlSource() refuses what is no YAML, ambiguous or a trap", () => {
  const bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"];
  for (let i = 1; i < 9; i++) bomb.push(`a${i}: &a${i} [${Array(9).fill(`*a${i - 1}`).join(", ")}]`);
  const cases: [text: string, message: RegExp][] = [
    ["", /empty/],
    ["# only a comment\n", /empty/],
    ["---\n", /empty/],
    ["a: 1\na: 2\n", /given twice/],
    ["a: 1\n---\nb: 2\n", /one document/],
    ["a: [1\nb: 2\n", /flow sequence/],
    ["a: 'x\n", /quote/],
    ["\ta: 1\n", /[Tt]ab/],
    ["a: !!js/function 'x'\n", /tag/],
    ["a: !secret x\n", /tag/],
    ["a: *absent\n", /alias/i],
    [bomb.join("\n"), /alias/i],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parseYamlSource(text), (error) => {
      assert.ok(error instanceof SourceFault, `${text}: ${error}`);
      assert.match(error.message, message, text);
      return true;
    });
  }
});
