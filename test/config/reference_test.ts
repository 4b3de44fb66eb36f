/** The config reference covers every field, and the README holds it as it is. */

import assert from "node:assert/strict";
import { renderReference, replaceReference } from "../../src/config/reference.ts";
import { z } from "zod";
import { agentSchema } from "../../src/config/schema/agent.ts";
import { connectorSchema } from "../../src/config/schema/connector.ts";
import { egressSchema } from "../../src/config/schema/egress.ts";
import { policySchema } from "../../src/config/schema/policy.ts";
import { relaySchema } from "../../src/config/schema/relay.ts";

Deno.test("every field has a row of four cells, and each but the mode a description", () => {
  for (const line of renderReference().split("\n").filter((line) => line.startsWith("| `"))) {
    const cells = line.split(" | ").map((cell) => cell.replaceAll("|", "").trim());
    assert.equal(cells.length, 4, line);
    for (const cell of cells) assert.notEqual(cell, "", line);
    assert.ok(!cells.includes("any") && !cells.includes("undefined"), line);
  }
});

Deno.test("every top-level field of every schema is in the reference", () => {
  const text = renderReference();
  for (const schema of [relaySchema, connectorSchema, agentSchema, policySchema, egressSchema]) {
    const { properties } = z.toJSONSchema(schema, { io: "input" });
    for (const field of Object.keys(properties!)) assert.ok(text.includes(`| \`${field}\` |`), field);
  }
});

Deno.test("types and defaults are printed as they are written in a config", () => {
  const text = renderReference();
  for (
    const row of [
      '| `listen.tls` | host:port or null | `"0.0.0.0:4433"` |',
      '| `authority.viewTtl` | duration | `"1h"` |',
      "| `limits.maxConnections` | integer | `4096` |",
      '| `services[].healthCheck.kind` | `"tcp"`, `"http"` | required |',
      "| `forwards` | list of object | `[]` |",
      "| `health` | unix:/path or null | `null` |",
      "| `socks5` | host:port | none |",
      '| `tunnel.routes` | `"policy"` or list of IP prefix | `"policy"` |',
      '| `default_action` | `"allow"`, `"deny"`, `"drop"`, `"reject"` | none |',
      "| `clients.NAME.rules` | list of object | required |",
      "| `clients.NAME.rules[].ports` | list of port or range | none |",
    ]
  ) assert.ok(text.includes(row), row);
});

Deno.test("replaceReference() writes between the markers only, and again without change", () => {
  const once = replaceReference("# A\n<!-- config:begin -->\nstale words\n<!-- config:end -->\nB\n");
  assert.ok(once.startsWith("# A\n<!-- config:begin -->\n\n<!-- deno-fmt-ignore-start -->"));
  assert.ok(once.endsWith("<!-- config:end -->\nB\n"));
  assert.ok(!once.includes("stale words"));
  assert.equal(replaceReference(once), once);
});

Deno.test("replaceReference() refuses a README without both markers once each", () => {
  for (
    const text of [
      "",
      "<!-- config:begin -->",
      "<!-- config:end --><!-- config:begin -->",
      "<!-- config:begin --><!-- config:end --><!-- config:begin --><!-- config:end -->",
    ]
  ) {
    assert.throws(() => replaceReference(text), SyntaxError, text);
  }
});

Deno.test("README.md holds the current reference", async () => {
  let readme: string;
  try {
    readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  assert.equal(replaceReference(readme), readme);
});
