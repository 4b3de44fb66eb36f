/** What code of a folder may touch: clocks, randomness, sockets, native code, SQL. */

import { folderOf, type SourceFile, type SourceTree } from "../source_tree.ts";
import type { Rule } from "../rule.ts";

const IMPURE = [
  /^Deno\b/,
  /^(fetch|setTimeout|setInterval|setImmediate|queueMicrotask|Date|performance|Temporal|Worker|WebSocket)\b/,
  /^Math\.random$/,
  /^crypto\.(getRandomValues|randomUUID)$/,
  /^AbortSignal\.timeout$/,
  /^globalThis\b/,
  /^process\b/,
  /^console\b/,
];
const IMPURE_MODULES = /^node:(?!assert|buffer$|util$)/;
const SOCKETS = [
  /^Deno\.(listen|connect|Quic|serve|createHttpClient|upgradeQuic)/,
  /^(fetch|WebSocket|EventSource)\b/,
];
const SOCKET_MODULES = /^node:(net|tls|dgram|http|https|http2)$/;
const FFI = [/^Deno\.(dlopen|Unsafe\w+)$/];
const SQL_MODULES = /^(node:sqlite|postgres|kysely)(\/|$)/;
/** Keywords in one case throughout, so that a sentence ("Select one from …") is not taken for a query. */
const SQL_TEXT =
  /^\s*((SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX)|PRAGMA)\b|(select\s.+\sfrom|insert\s+into|update\s+\S+\s+set|delete\s+from|create\s+(table|index))\s)/s;

/** The rules on what a folder's code may touch. */
export const PURITY_RULES: readonly Rule[] = [
  {
    name: "wire/ and core/ contain no Deno, fetch, timers, clock or randomness",
    reason:
      "design §8: sans-IO code is tested with any clock, any order and any bytes; now and rng are arguments",
    check: (
      tree,
    ) => [...used(tree, ["wire", "core"], IMPURE), ...imported(tree, ["wire", "core"], IMPURE_MODULES)],
    violations: [
      {
        files: { "src/wire/a.ts": "\nDeno.readFileSync('x');" },
        says: /src\/wire\/a\.ts:2: Deno\.readFileSync/,
      },
      { files: { "src/core/a.ts": "const x = new Date();" }, says: /Date/ },
      { files: { "src/core/a.ts": "const x = Date.now;" }, says: /Date\.now/ },
      { files: { "src/wire/a.ts": "setTimeout(f, 1);" }, says: /setTimeout/ },
      { files: { "src/wire/a.ts": "const r = Math.random();" }, says: /Math\.random/ },
      { files: { "src/wire/a.ts": "crypto.getRandomValues(x);" }, says: /getRandomValues/ },
      { files: { "src/core/a.ts": "globalThis.fetch('x');" }, says: /globalThis/ },
      { files: { "src/core/a.ts": "f(performance);" }, says: /performance/ },
      { files: { "src/wire/a.ts": "await fetch('x');" }, says: /fetch/ },
      { files: { "src/wire/a.ts": `import { randomBytes } from "node:crypto";` }, says: /node:crypto/ },
    ],
    fine: {
      "src/wire/a.ts":
        "/** Not Date.now(). */ const o = { Date: 1, fetch() {} }; f(o.Date, o.fetch, Math.max(1, 2));",
      "src/io/a.ts": "Deno.now(); Date.now();",
    },
  },
  {
    name: "base/, wire/, core/, identity/ and config/ open no socket",
    reason:
      "design §8: what decides or verifies must run in a test without a network, and must not be able to leak",
    check: (tree) => {
      const folders = ["base", "wire", "core", "identity", "config"];
      return [...used(tree, folders, SOCKETS), ...imported(tree, folders, SOCKET_MODULES)];
    },
    violations: [
      { files: { "src/identity/a.ts": "Deno.connect({ port: 1 });" }, says: /Deno\.connect/ },
      { files: { "src/config/a.ts": `import net from "node:net";` }, says: /node:net/ },
      { files: { "src/base/a.ts": "new Deno.QuicEndpoint();" }, says: /QuicEndpoint/ },
    ],
    fine: { "src/identity/a.ts": "Deno.readTextFile('x');", "src/io/a.ts": "Deno.connect({ port: 1 });" },
  },
  {
    name: "native code is called only in io/",
    reason: "design §8: one wrong pointer takes the process; every such call must be found in one place",
    check: (tree) => used(tree, otherFolders(tree, "io"), FFI),
    violations: [
      { files: { "src/dataplane/a.ts": "Deno.dlopen('libc.so.6', {});" }, says: /Deno\.dlopen/ },
      { files: { "src/cli/a.ts": "new Deno.UnsafePointerView(p);" }, says: /UnsafePointerView/ },
    ],
    fine: { "src/io/a.ts": "Deno.dlopen('libc.so.6', {});" },
  },
  {
    name: "SQL lives only in store/",
    reason: "design §8: two databases share one schema only while one folder speaks SQL",
    check: (tree) => [
      ...imported(tree, otherFolders(tree, "store"), SQL_MODULES),
      ...inFolders(tree, otherFolders(tree, "store")).flatMap((file) =>
        file.strings.filter(({ name }) => SQL_TEXT.test(name)).map(({ line }) =>
          `${file.path}:${line}: SQL text`
        )
      ),
    ],
    violations: [
      { files: { "src/core/a.ts": `import { DatabaseSync } from "node:sqlite";` }, says: /node:sqlite/ },
      { files: { "src/api/a.ts": "const q = `select id from users where x = ${y}`;" }, says: /SQL text/ },
      { files: { "src/api/a.ts": "const q = 'INSERT INTO x VALUES (1)';" }, says: /SQL text/ },
    ],
    fine: {
      "src/store/a.ts": "const q = 'INSERT INTO x VALUES (1)';",
      "src/cli/a.ts": "const t = 'Select one from the list. Insert into it.';",
    },
  },
  {
    name: "dependencies are bare names from deno.json, or node: built-ins",
    reason: "one place pins every version, and nothing is loaded from a URL at run time",
    check: (tree) =>
      tree.sources.filter((file) => file.path.startsWith("src/") || file.path === "main.ts").flatMap((file) =>
        file.imports.filter(({ specifier }) => /^(npm|jsr|https?|data|file):/.test(specifier))
          .map(({ line, specifier }) => `${file.path}:${line}: ${specifier}`)
      ),
    violations: [
      { files: { "src/core/a.ts": `import { z } from "npm:zod";` }, says: /npm:zod/ },
      { files: { "src/core/a.ts": `await import("https://example.org/x.ts");` }, says: /example\.org/ },
    ],
    fine: {
      "src/core/a.ts": `import { z } from "zod"; import { Buffer } from "node:buffer"; import "./b.ts";`,
    },
  },
];

function inFolders(tree: SourceTree, folders: readonly string[]): SourceFile[] {
  return tree.sources.filter((file) => file.path.startsWith("src/") && folders.includes(folderOf(file.path)));
}

function otherFolders(tree: SourceTree, except: string): string[] {
  return [...new Set(tree.sources.map((file) => folderOf(file.path)))].filter((folder) => folder !== except);
}

function used(tree: SourceTree, folders: readonly string[], banned: readonly RegExp[]): string[] {
  return inFolders(tree, folders).flatMap((file) =>
    file.uses.filter(({ name }) => banned.some((pattern) => pattern.test(name)))
      .map(({ name, line }) => `${file.path}:${line}: ${name}`)
  );
}

function imported(tree: SourceTree, folders: readonly string[], banned: RegExp): string[] {
  return inFolders(tree, folders).flatMap((file) =>
    file.imports.filter(({ specifier, typeOnly }) => banned.test(specifier) && !typeOnly)
      .map(({ specifier, line }) => `${file.path}:${line}: imports ${specifier}`)
  );
}
