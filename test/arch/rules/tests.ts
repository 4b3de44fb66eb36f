/** The form of tests: they mirror the source, and they never wait for the clock. */

import type { Rule } from "../rule.ts";

/** Folders whose every file with behaviour has a test beside its mirror image. */
const MIRRORED = ["wire", "core", "identity"];

/** Where waiting is the subject: helpers that bound a wait, measurements, the test of `sleep()` itself. */
const MAY_WAIT = [
  /^test\/(support|bench)\//,
  /^test\/run\.ts$/,
  /^test\/arch\//,
  /^test\/base\/async_test\.ts$/,
];

/** Packages that `.ci/run` must install. */
const PACKAGE = /apt-get install -y ([^`;]+)/g;

/** The rules on tests. */
export const TEST_RULES: readonly Rule[] = [
  {
    name: "test/ mirrors src/ for wire, core and identity",
    reason: "style 26: the test of a file is found without searching, and a file without one shows",
    check: (tree) =>
      tree.sources.filter(({ path, hasBehaviour }) =>
        hasBehaviour && MIRRORED.some((folder) => path.startsWith(`src/${folder}/`))
      )
        .map(({ path }) => ({ path, test: path.replace(/^src\//, "test/").replace(/\.ts$/, "_test.ts") }))
        .filter(({ test }) => !tree.paths.has(test))
        .map(({ path, test }) => `${path}: ${test} is missing`),
    violations: [
      {
        files: { "src/wire/capsule/a.ts": "export function f() {}" },
        says: /test\/wire\/capsule\/a_test\.ts is missing/,
      },
      { files: { "src/core/a.ts": "export const f = () => 1;" }, says: /test\/core\/a_test\.ts/ },
      {
        files: { "src/identity/a.ts": "export class A { m() {} }", "test/a_test.ts": "" },
        says: /test\/identity\/a_test\.ts/,
      },
    ],
    fine: {
      "src/wire/a.ts": "export function f() {}",
      "test/wire/a_test.ts": "",
      "src/wire/codes.ts": "export const A = 1;",
    },
  },
  {
    name: "tests do not sleep",
    reason: "style 30: a test that waits for the clock is slow on every machine and wrong on a busy one",
    check: (tree) =>
      tree.sources.filter(({ path }) =>
        path.startsWith("test/") && !MAY_WAIT.some((allowed) => allowed.test(path))
      ).flatMap((file) =>
        file.uses.filter(({ name }) => /^(setTimeout|setInterval|sleep|delay)$/.test(name))
          .map(({ name, line }) => `${file.path}:${line}: ${name}`)
      ),
    violations: [
      {
        files: { "test/wire/a_test.ts": "await new Promise((r) => setTimeout(r, 5));" },
        says: /a_test\.ts:1: setTimeout/,
      },
      { files: { "test/e2e/a_test.ts": "await sleep(5);" }, says: /sleep/ },
      { files: { "test/e2e/a_test.ts": "await delay(5);" }, says: /delay/ },
    ],
    fine: {
      "test/support/wait.ts": "setTimeout(f, 1);",
      "test/a_test.ts": "const o = { delay: 1 }; f(o.delay);",
    },
  },
  {
    name: "sanitizers stay on, and no test is focused or switched off by hand",
    reason:
      "style 36: a leak or a skipped test is a finding; tests that need a tool go through require_tool.ts",
    check: (tree) =>
      tree.sources.filter(({ path }) => path.startsWith("test/") && !path.startsWith("test/arch/")).flatMap((
        file,
      ) =>
        file.text.split("\n").flatMap((text, index) => {
          const bad =
            /\bsanitize(Ops|Resources|Exit): false|\bDeno\.test\.(only|ignore)\b|\b(only|ignore): true\b/
              .exec(text);
          return bad === null ? [] : [`${file.path}:${index + 1}: ${bad[0]}`];
        })
      ),
    violations: [
      { files: { "test/a_test.ts": "Deno.test({ name, fn, sanitizeOps: false });" }, says: /sanitizeOps/ },
      { files: { "test/a_test.ts": "Deno.test.only('x', f);" }, says: /only/ },
      { files: { "test/a_test.ts": "Deno.test({ name, fn, ignore: true });" }, says: /ignore/ },
    ],
    fine: { "test/a_test.ts": "Deno.test({ name, fn, ignore: missing.length > 0 });" },
  },
  {
    name: ".ci/run installs every package that a skipped test asks for",
    reason: "in CI nothing may be skipped",
    check: (tree) => {
      const script = tree.texts.get(".ci/run") ?? "";
      const packages = new Map<string, string>();
      for (
        const file of tree.sources.filter(({ path }) =>
          path.startsWith("test/") && !path.startsWith("test/arch/")
        )
      ) {
        for (const { name, line } of file.strings) {
          for (const match of name.matchAll(PACKAGE)) {
            for (const word of (match[1] ?? "").trim().split(/\s+/)) {
              packages.set(word, `${file.path}:${line}`);
            }
          }
        }
      }
      return [...packages].filter(([name]) =>
        !new RegExp(`(^|[\\s(])${name.replaceAll("+", "\\+")}([\\s)]|$)`, "m").test(script)
      )
        .map(([name, place]) => `${place}: ${name} is not in .ci/run`);
    },
    violations: [
      {
        files: { ".ci/run": "packages=(curl gcc-x)", "test/a.ts": `f("apt-get install -y curl gcc");` },
        says: /gcc is not in/,
      },
    ],
    fine: {
      ".ci/run": "packages=(\n  curl gcc\n)",
      "test/a.ts": `f("apt-get install -y curl"); f("apt-get install -y gcc");`,
    },
  },
];
