/** Each lint rule against code that it must object to and code close to that which it must accept. */

import assert from "node:assert/strict";
import plugin from "./lint_plugin.ts";

/** Code by file; `src/wire/a.ts` where nothing else is said. */
type Code = string | { readonly path: string; readonly text: string };

const CASES: Readonly<Record<string, { readonly bad: readonly Code[]; readonly good: readonly Code[] }>> = {
  "no-top-level-arrow": {
    bad: ["const f = () => 1;", "export const f = async () => {};", "const f = function () {};"],
    good: ["function f() { const g = () => 1; return g; }", {
      path: "test/a_test.ts",
      text: "const f = () => 1;",
    }],
  },
  "constant-case": {
    bad: [
      "const limit = 5;",
      "export const sizes = [1, 2];",
      `const name = "x" as const;`,
      "const max = 2 * -3;",
    ],
    good: [
      "const LIMIT = 5;",
      "const schema = z.object({});",
      "const table = { a: f() };",
      "let next = 0;",
      "function f() { const limit = 5; return limit; }",
    ],
  },
  naming: {
    bad: [
      "function Read() {}",
      "function read_all() {}",
      "class reader {}",
      "interface options { a: 1 }",
      "type t = 1;",
    ],
    good: ["function readAll() {}", "class Reader {}", "interface Options { a: 1 }", "type T = 1;"],
  },
  "hash-private": {
    bad: ["class A { private x = 1; }", "class A { private m() {} }"],
    good: ["class A { #x = 1; readonly y = 2; protected m() {} }", "class A { private constructor() {} }"],
  },
  "few-parameters": {
    bad: ["export function f(a, b, c, d) {}"],
    good: ["export function f(a, b, options) {}", "function f(a, b, c, d) {}"],
  },
  "error-message": {
    bad: [
      `throw new TypeError("cannot read");`,
      `throw new RangeError("Too long.");`,
      "throw new SyntaxError(`Bad ${x}.`);",
    ],
    good: [
      `throw new TypeError("Cannot read x");`,
      "throw new RangeError(`${name} is too long`);",
      `throw new Error("any.");`,
    ],
  },
  "no-console": {
    bad: ["console.log(1);", "const warn = console.warn;"],
    good: [{ path: "src/cli/a.ts", text: "console.log(1);" }, { path: "test/a.ts", text: "console.log(1);" }],
  },
};

Deno.test("every lint rule has its cases", () => {
  assert.deepEqual(Object.keys(CASES).toSorted(), Object.keys(plugin.rules).toSorted());
});

for (const [rule, { bad, good }] of Object.entries(CASES)) {
  Deno.test(`lint rule ${rule} objects to the bad and accepts the good`, () => {
    for (const code of bad) assert.deepEqual(lint(code), [`ginnel/${rule}`], JSON.stringify(code));
    for (const code of good) assert.ok(!lint(code).includes(`ginnel/${rule}`), JSON.stringify(code));
  });
}

function lint(code: Code): string[] {
  const { path, text } = typeof code === "string" ? { path: "src/wire/a.ts", text: code } : code;
  return Deno.lint.runPlugin(plugin, path, text).map(({ id }) => id);
}
