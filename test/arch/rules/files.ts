/** The form of files and folders: names, sizes, headers, READMEs, and the top-level layout. */

import type { Rule } from "../rule.ts";
import type { SourceFile, SourceTree } from "../source_tree.ts";

/** Lines beyond which a file must be split. */
const MAX_LINES = 500;

/** What may lie at the top, as the README shows it. */
const TOP_LEVEL = [
  ".ci",
  ".dockerignore",
  ".gitignore",
  "Dockerfile",
  "LICENSE",
  "README.md",
  "compile.sh",
  "config",
  "deno.json",
  "deno.lock",
  "main.ts",
  "src",
  "test",
];

/** The rules on files and folders. */
export const FILE_RULES: readonly Rule[] = [
  {
    name: "the top level holds exactly what the layout names",
    reason: "design §8: a newcomer finds everything by one list",
    check: (tree) => {
      const there = new Set([...tree.paths].map((path) => path.split("/")[0] ?? path));
      return [
        ...[...there].filter((name) => !TOP_LEVEL.includes(name)).map((name) =>
          `${name}: not part of the layout`
        ),
        ...TOP_LEVEL.filter((name) => !there.has(name)).map((name) => `${name}: missing`),
      ];
    },
    violations: [
      { files: { ...topLevel(), "packaging/a.sh": "" }, says: /packaging: not part/ },
      { files: { "main.ts": "" }, says: /LICENSE: missing/ },
    ],
    fine: topLevel(),
  },
  {
    name: "every TypeScript file opens with a module doc whose first paragraph has 1 to 5 lines",
    reason: "style 24: the reader learns what a file is for before its first import",
    check: (tree) => tree.sources.filter((file) => !isMirror(file.path, tree)).flatMap(checkHeader),
    violations: [
      { files: { "src/core/a.ts": "export const A = 1;\n" }, says: /no module doc/ },
      { files: { "src/core/a.ts": "// About.\nexport const A = 1;\n" }, says: /no module doc/ },
      { files: { "src/core/a.ts": "/** */\n\nexport const A = 1;\n" }, says: /0 lines/ },
      { files: { "src/core/a.ts": "/** Doc. */\nexport const A = 1;\n" }, says: /blank line/ },
      { files: { "src/core/a.ts": `/**\n${" * x\n".repeat(6)} */\n\nf();\n` }, says: /6 lines/ },
      { files: { "test/e2e/a_test.ts": "f();" }, says: /no module doc/ },
    ],
    fine: {
      "src/core/a.ts": `/**\n${" * x\n".repeat(5)} *\n${" * layout\n".repeat(9)} */\nimport "./b.ts";\n`,
      "main.ts": "/** Doc. */\n\nf();\n",
      "test/core/a_test.ts": "f();",
    },
  },
  {
    name: `no source file is longer than ${MAX_LINES} lines`,
    reason: "style 10: past that a file wants splitting by concern",
    check: (tree) =>
      tree.sources.filter((file) => file.lines > MAX_LINES).map((file) =>
        `${file.path}:${file.lines}: ${file.lines} lines`
      ),
    violations: [{ files: { "src/core/a.ts": "f();\n".repeat(MAX_LINES + 1) }, says: /501 lines/ }],
    fine: { "src/core/a.ts": "f();\n".repeat(MAX_LINES) },
  },
  {
    name: "files and folders are named in snake_case",
    reason: "style 8: a file is found by the name of its main export",
    check: (tree) =>
      [...tree.paths].filter((path) => /^(src|test)\//.test(path)).flatMap((path) => {
        const parts = path.split("/").filter((part) => part !== "README.md");
        const bad = parts.find((part) => !/^\.?[a-z0-9_]+(\.[a-z0-9_]+)*$/.test(part) && !isData(path));
        return bad === undefined ? [] : [`${path}: ${bad} is not snake_case`];
      }),
    violations: [
      { files: { "src/core/myFile.ts": "" }, says: /myFile\.ts/ },
      { files: { "test/E2E/a_test.ts": "" }, says: /E2E/ },
      { files: { "src/core/my-file.ts": "" }, says: /my-file\.ts/ },
    ],
    fine: { "src/core/my_file.ts": "", "src/core/README.md": "x", "test/wire/a_test.ts": "" },
  },
  {
    name: "every folder of src/ has a README.md that says what lives there",
    reason: "contract: its first lines say what lives there and what it may import",
    check: (tree) => {
      const folders = new Set([...tree.paths].filter((path) => path.startsWith("src/")).map(parent));
      folders.delete("src");
      return [...folders].toSorted().filter((folder) => words(tree, `${folder}/README.md`) < 8)
        .map((folder) => `${folder}: README.md is missing or says nothing`);
    },
    violations: [
      { files: { "src/core/a.ts": "" }, says: /src\/core: README/ },
      { files: { "src/core/README.md": "# core\n" }, says: /src\/core: README/ },
      {
        files: {
          "src/core/README.md": "# core\n\nPure decisions of all kinds. May import base only.\n",
          "src/core/policy/a.ts": "",
        },
        says: /src\/core\/policy/,
      },
    ],
    fine: {
      "src/core/README.md": "# core\n\nPure decisions of all kinds. May import base only.\n",
      "src/core/a.ts": "",
    },
  },
  {
    name: "src/ has no barrel files",
    reason: "style 6: import the defining file, so that an edge in the import graph means a need",
    check: (tree) =>
      tree.sources.filter((file) => file.path.startsWith("src/"))
        .flatMap((file) => file.reexports.map((line) => `${file.path}:${line}: re-exports`)),
    violations: [
      { files: { "src/core/a.ts": `export * from "./b.ts";` }, says: /re-exports/ },
      { files: { "src/core/a.ts": `export { b } from "./b.ts";` }, says: /re-exports/ },
    ],
    fine: { "src/core/a.ts": `import { b } from "./b.ts"; export const A = b;` },
  },
];

function checkHeader(file: SourceFile): string[] {
  const first = file.comments[0];
  if (!file.text.startsWith("/**") || first === undefined) return [`${file.path}:1: no module doc`];
  const lines = first.text.split("\n").map((line) => line.replace(/^[\s*]+/, "")).join("\n").trim().split(
    "\n",
  );
  const blank = lines.indexOf("");
  const paragraph = blank === -1 ? lines : lines.slice(0, blank);
  if (paragraph.length > 5 || paragraph.length === 0) {
    return [`${file.path}:1: ${paragraph.length} lines of module doc`];
  }
  const next = file.text.slice(first.text.length + "/**/".length).split("\n")[1] ?? "";
  const attached = next.trim() !== "" && !next.startsWith("import ");
  return attached
    ? [`${file.path}:1: the module doc needs a blank line after it, or it documents an item`]
    : [];
}

/** The mirrored test of a source file: the path says what it tests. */
function isMirror(path: string, tree: SourceTree): boolean {
  return tree.paths.has(path.replace(/^test\//, "src/").replace(/_test\.ts$/, ".ts")) &&
    path.endsWith("_test.ts");
}

function topLevel(): Record<string, string> {
  return Object.fromEntries(
    TOP_LEVEL.map((name) => [name === "src" || name === "test" ? `${name}/a.ts` : name, ""]),
  );
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

function words(tree: SourceTree, path: string): number {
  return (tree.texts.get(path) ?? "").split(/\s+/).filter((word) => /\w/.test(word)).length;
}

/** Fuzz corpora and programs in other languages follow their own customs. */
function isData(path: string): boolean {
  return /\/(corpus|testdata)\//.test(path) || /\.(go|mod|sum|html|pem|bin|hex)$/.test(path);
}
