/** Nothing is exported that the product does not use. */

import type { Rule } from "../rule.ts";
import type { SourceTree } from "../source_tree.ts";

/** Ways in from outside: programs that people or `compile.sh` start, and the SDK's public surface. */
const ENTRIES = [/^main\.ts$/, /^src\/sdk\//, /^src\/cli\/selfextract\/pack\.ts$/];

/** Tables of an RFC's code points, and codecs of its forms: one that left out what we do not send yet would mislead. */
const CODE_TABLE = /^src\/wire\/(?:.*\/codes|varint|masque\/uri|capsule\/webtransport)\.ts$/;

/** The rules on exports. */
export const EXPORT_RULES: readonly Rule[] = [
  {
    name: "every value exported in src/ is used by the product",
    reason: "style 5: what only a test calls is dead code with a test",
    check: (tree) => unused(tree, "value"),
    violations: [
      {
        files: { "src/core/a.ts": "export function f() {}" },
        says: /src\/core\/a\.ts:1: f is imported by nothing/,
      },
      {
        files: {
          "src/core/a.ts": "export function f() {}",
          "test/core/a_test.ts": `import { f } from "../../src/core/a.ts";`,
        },
        says: /f is used only by tests/,
      },
      {
        files: { "src/core/a.ts": "export const A = 1;\nconst b = A;" },
        says: /A is used only in its own file/,
      },
      {
        files: { "src/core/a.ts": "export class C {}", "src/core/b.ts": `import { c } from "./a.ts";` },
        says: /C is imported by nothing/,
      },
    ],
    fine: {
      "src/core/a.ts":
        "export function f() {}\nexport const LIMIT = 1;\nf(LIMIT);\nexport function allowAllForTest() {}",
      "src/core/b.ts": `import { f } from "./a.ts";`,
      "src/core/c.ts": "export function g() {}",
      "src/core/d.ts": `const c = await import("./c.ts");`,
      "src/sdk/e.ts": "export function h() {}",
      "src/wire/h3/codes.ts": "export const H3_VERSION_FALLBACK = 0x110;",
      "test/core/a_test.ts": `import { LIMIT } from "../../src/core/a.ts";`,
    },
  },
  {
    name: "every type exported in src/ is used by the product",
    reason: "style 5: a type without a user is a plan, not code",
    check: (tree) => unused(tree, "type"),
    violations: [
      { files: { "src/core/a.ts": "export interface I { a: 1 }" }, says: /I is imported by nothing/ },
      {
        files: {
          "src/core/a.ts": "export type T = 1;",
          "test/core/a_test.ts": `import type { T } from "../../src/core/a.ts";`,
        },
        says: /T is used only by tests/,
      },
    ],
    fine: {
      "src/core/a.ts":
        "export interface Options { a: 1 }\nexport function f(options: Options) {}\nexport type T = 1;",
      "src/core/b.ts": `import type { T } from "./a.ts";`,
      "src/core/c.ts": `interface P { a: 1 }\nfunction g(p: P) {}\nexport type { P };`,
    },
  },
];

function unused(tree: SourceTree, kind: "type" | "value"): string[] {
  const product = importedNames(tree, /^(src\/|main\.ts$)/);
  const tests = importedNames(tree, /^test\//);
  const found: string[] = [];
  for (const file of tree.sources.filter((file) => file.path.startsWith("src/"))) {
    if ([...ENTRIES, CODE_TABLE].some((exempt) => exempt.test(file.path))) continue;
    for (const { name, line, usedInFile, ...entry } of file.exports) {
      if (entry.kind !== kind || name.endsWith("ForTest") || has(product, file.path, name)) continue;
      const tested = has(tests, file.path, name);
      // An exported type of a signature, or a value that its own file uses and a test checks, needs no importer.
      if (usedInFile && (kind === "type" || tested)) continue;
      const why = usedInFile
        ? "is used only in its own file"
        : tested
        ? "is used only by tests"
        : "is imported by nothing";
      found.push(`${file.path}:${line}: ${name} ${why}`);
    }
  }
  return found;
}

function importedNames(tree: SourceTree, from: RegExp): Map<string, Set<string>> {
  const names = new Map<string, Set<string>>();
  for (const file of tree.sources.filter((file) => from.test(file.path))) {
    for (const { target, names: taken } of file.imports) {
      if (target === undefined) continue;
      const known = names.get(target) ?? new Set();
      for (const name of taken) known.add(name);
      names.set(target, known);
    }
  }
  return names;
}

function has(names: Map<string, Set<string>>, path: string, name: string): boolean {
  const taken = names.get(path);
  return taken !== undefined && (taken.has(name) || taken.has("*"));
}
