/** Which live flows a new policy ends. */

import assert from "node:assert/strict";
import { revokedFlows } from "../../../src/core/policy/diff.ts";
import { EMPTY_POLICY, type PolicyDocument } from "../../../src/core/policy/document.ts";
import { compilePolicy } from "../../../src/core/policy/snapshot.ts";

const DOCUMENT: PolicyDocument = {
  identities: [],
  services: [{ name: "web", roleAttributes: [], endToEnd: "required" }],
  servicePolicies: [
    { name: "d", type: "Dial", identityRoles: ["@alice"], serviceRoles: ["@web"], semantic: "AnyOf" },
    { name: "b", type: "Bind", identityRoles: ["@host"], serviceRoles: ["@web"], semantic: "AnyOf" },
  ],
};
const FLOW = {
  id: 1,
  caller: "spiffe://d/agent/alice",
  service: "web",
  connector: "spiffe://d/connector/host",
};

Deno.test("revokedFlows() keeps flows whose both ends keep their right", () => {
  assert.deepEqual(revokedFlows(compilePolicy(DOCUMENT), [FLOW, FLOW]), []);
});

Deno.test("revokedFlows() names the side that lost its right, and why", () => {
  const [dial, bind] = DOCUMENT.servicePolicies;
  const withPolicies = (...servicePolicies: PolicyDocument["servicePolicies"]) =>
    revokedFlows(compilePolicy({ ...DOCUMENT, servicePolicies }), [FLOW]);
  assert.deepEqual(withPolicies(bind!), [{ flow: FLOW, side: "dial", reason: "no_matching_policy" }]);
  assert.deepEqual(withPolicies(dial!), [{ flow: FLOW, side: "bind", reason: "no_matching_policy" }]);
  assert.deepEqual(revokedFlows(compilePolicy(EMPTY_POLICY), [FLOW]), [
    { flow: FLOW, side: "dial", reason: "unknown_service" },
  ]);
});

Deno.test("revokedFlows() takes only the flows concerned", () => {
  const other = { ...FLOW, id: 2, caller: "spiffe://d/agent/bob" };
  assert.deepEqual(revokedFlows(compilePolicy(DOCUMENT), [FLOW, other]).map(({ flow }) => flow.id), [2]);
});
