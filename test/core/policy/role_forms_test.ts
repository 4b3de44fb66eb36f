/** The forms of roles, compared with what policy files accept: one policy must mean one thing in both. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { servicePolicySchema } from "../../../src/config/schema/policy.ts";
import { roleAttributeFault, roleFault, roleListFault } from "../../../src/core/policy/role_forms.ts";

Deno.test("hostile roles are refused", () => {
  for (
    const role of [
      "",
      "#",
      "@",
      "all",
      "#a b",
      "##a",
      "#@a",
      "@#a",
      "#a\n",
      "@a/b",
      "@relay/r",
      "#\u0000",
      "@spiffe://",
    ]
  ) {
    assert.notEqual(roleFault(role, "identity"), undefined, JSON.stringify(role));
    assert.notEqual(roleFault(role, "service"), undefined, JSON.stringify(role));
  }
  assert.notEqual(roleFault("@agent/alice", "service"), undefined);
  assert.notEqual(roleFault(`#${"a".repeat(129)}`, "identity"), undefined);
  for (const attribute of ["all", "#a", "@a", "", "a b", "a\t"]) {
    assert.notEqual(roleAttributeFault(attribute), undefined, JSON.stringify(attribute));
  }
  assert.notEqual(roleListFault(["#all", "#a"]), undefined);
});

Deno.test("roles mean in the API what they mean in policy files", () => {
  const piece = fc.constantFrom(
    "#",
    "@",
    "a",
    "all",
    "agent/",
    "spiffe://d.example",
    "/x",
    ".",
    "_",
    " ",
    "é",
    "-",
    "A",
  );
  const role = fc.oneof(
    fc.array(piece, { maxLength: 5 }).map((parts) => parts.join("")),
    fc.string({ maxLength: 6 }),
  );
  fc.assert(
    fc.property(fc.array(role, { maxLength: 3 }), fc.constantFrom("identity", "service"), (roles, side) => {
      const other = side === "identity" ? "serviceRoles" : "identityRoles";
      const policy = { name: "p", type: "Dial", [`${side}Roles`]: roles, [other]: ["#x"] };
      const isFine = roleListFault(roles) === undefined &&
        roles.every((word) => roleFault(word, side) === undefined);
      assert.equal(isFine, servicePolicySchema.safeParse(policy).success, JSON.stringify(roles));
    }),
    { numRuns: 1_000 },
  );
});

Deno.test("the roles people write are fine", () => {
  for (
    const role of ["#all", "#rtmx-users", "@alice", "@agent/alice", "@spiffe://d.example/ns/x", "#größe"]
  ) {
    assert.equal(roleFault(role, "identity"), undefined, role);
  }
  for (const role of ["#all", "@rtmx-sync", "#prod"]) {
    assert.equal(roleFault(role, "service"), undefined, role);
  }
  assert.equal(roleAttributeFault("rtmx-users"), undefined);
  assert.equal(roleListFault(["#all"]), undefined);
});
