/** Only trust domains in force count, and only with a CA. */

import assert from "node:assert/strict";
import { foreignTrust } from "../../../src/core/network/foreign_trust.ts";

Deno.test("foreignTrust() leaves out what is disabled or has no CA", () => {
  const entry = (name: string, spec: { roots: string[]; disabled: boolean }) =>
    [name, { name, spec: { ...spec, rules: [] } }] as const;
  const trustDomains = new Map([
    entry("a.example", { roots: ["one", "two"], disabled: false }),
    entry("b.example", { roots: ["three"], disabled: true }),
    entry("c.example", { roots: [], disabled: false }),
  ]);
  assert.deepEqual(foreignTrust({ trustDomains }), [{ domain: "a.example", roots: ["one", "two"] }]);
});
