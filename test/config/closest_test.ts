/** Did you mean … */

import assert from "node:assert/strict";
import { closest } from "../../src/config/closest.ts";

const FIELDS = ["relays", "services", "carrier", "health", "identity"];

Deno.test("closest() mends slips and changes of case", () => {
  const slips = {
    relay: "relays",
    service: "services",
    carier: "carrier",
    Health: "health",
    idenitty: "identity",
  };
  for (const [slip, meant] of Object.entries(slips)) assert.equal(closest(slip, FIELDS), meant);
});

Deno.test("closest() stays silent when nothing is near", () => {
  for (const word of ["", "xyz", "upstream", "x".repeat(100_000)]) {
    assert.equal(closest(word, FIELDS), undefined);
  }
  assert.equal(closest("relays", []), undefined);
});
