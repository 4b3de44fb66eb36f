/** Whether the large network of the bench is what its rows say. */

import assert from "node:assert/strict";
import { toPolicyDocument } from "../../src/core/network/policy_document.ts";
import { compilePolicy } from "../../src/core/policy/snapshot.ts";
import { LARGE_DOMAIN, largeIdentity, largeNetwork } from "./large_network.ts";

Deno.test("the large network has the promised size, and every right in it decides something", () => {
  const state = largeNetwork();
  assert.deepEqual(
    [state.identities.size, state.services.size, state.servicePolicies.size],
    [10_000, 1_000, 200],
  );
  const snapshot = compilePolicy(toPolicyDocument(state), { trustDomain: LARGE_DOMAIN, declaredOnly: true });
  assert.deepEqual(snapshot.warnings.filter(({ reason }) => reason === "attribute_nobody_has"), []);
  // Steps of 19 meet every kind, team, site and rank.
  const sample = Array.from({ length: 500 }, (_, i) => largeIdentity(i * 19));
  const allowed = sample.filter((id) => snapshot.visibleServices(id).length > 0).length;
  // Connectors, and most people: what asks for several attributes at once leaves some without.
  assert.ok(allowed > 400 && allowed < 500, `${allowed} of 500 identities may do anything`);
});
