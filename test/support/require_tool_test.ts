/** What a test that needs a tool becomes with and without it. */

import assert from "node:assert/strict";
import { needsTool, skippedName } from "./require_tool.ts";

Deno.test("needsTool() finds a program on PATH and at a given path", () => {
  assert.equal(needsTool("sh", { install: "none" }).met, true);
  assert.equal(needsTool("x", { install: "none", paths: [Deno.execPath()] }).path, Deno.execPath());
});

Deno.test("needsTool() does not take a folder or a plain file for a program", () => {
  const plain = new URL(import.meta.url).pathname;
  assert.equal(needsTool("x", { install: "none", paths: ["/etc", plain, "/nowhere/x"] }).met, false);
});

Deno.test("skippedName() says what is needed and how to get it, each remedy once", () => {
  const missing = [needsTool("no-a", { install: "get both" }), needsTool("no-b", { install: "get both" })];
  assert.equal(skippedName("works", missing), "works (needs no-a, no-b: get both)");
  assert.equal(skippedName("works", []), "works");
});
