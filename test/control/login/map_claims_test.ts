/** Claims are written by others: what a user may choose there must not become a right that no rule gives. */

import assert from "node:assert/strict";
import fc from "fast-check";
import type { AuthProviderSpec, ClaimRule } from "../../../src/core/network/resources.ts";
import { decidesRoles, mapClaims } from "../../../src/control/login/map_claims.ts";
import { makeSpiffeId } from "../../../src/identity/spiffe_id.ts";

const BASE = { iss: "https://id.example.com", sub: "u-1", iat: 1, exp: 2 };

Deno.test("mapClaims() gives what the rules say of lists, scalars and members of objects", () => {
  const claims = {
    groups: ["dev", "ops"],
    department: "it",
    level: 3,
    realm_access: { roles: ["boss"] },
    "urn:zitadel:iam:org:project:roles": { operator: { "1": "x" } },
  };
  const mapped = map(claims, [
    { claim: "groups", value: "ops", roleAttributes: ["operators"] },
    { claim: "groups", roleAttributes: ["group-{value}"] },
    { claim: "department", roleAttributes: ["{value}"] },
    { claim: "level", value: "3", roleAttributes: ["senior"] },
    { claim: "realm_access.roles", value: "boss", roleAttributes: [], adminRole: "viewer" },
    {
      claim: "urn:zitadel:iam:org:project:roles",
      value: "operator",
      roleAttributes: [],
      adminRole: "operator",
    },
    { claim: "groups", value: "none", roleAttributes: ["never"], adminRole: "admin" },
  ]);
  assert.deepEqual(mapped.roleAttributes, ["group-dev", "group-ops", "it", "operators", "senior"]);
  assert.equal(mapped.adminRole, "operator");
  assert.equal(mapped.externalId, "https://id.example.com|u-1");
  assert.equal(mapped.matched, true);
});

Deno.test("mapClaims() finds claims whose own names have dots before it walks", () => {
  const claims = { "https://example.com/groups": ["a"], "x.y": { z: "b" }, x: { "y.z": "c", y: { z: "d" } } };
  assert.deepEqual(
    map(claims, [{ claim: "https://example.com/groups", roleAttributes: ["{value}"] }]).roleAttributes,
    ["a"],
  );
  assert.deepEqual(map(claims, [{ claim: "x.y.z", roleAttributes: ["{value}"] }]).roleAttributes, ["b"]);
});

Deno.test("mapClaims() matches nothing where the claim is absent, or belongs to every object", () => {
  for (const claim of ["groups", "__proto__", "constructor.name", "toString", "", ".", "a..b"]) {
    const mapped = map({ groups: null, a: {} }, [{ claim, roleAttributes: ["x"], adminRole: "admin" }]);
    assert.deepEqual(mapped.roleAttributes, [], claim);
    assert.equal(mapped.adminRole, null);
    assert.equal(mapped.matched, false);
  }
});

Deno.test("mapClaims() compares values whole and by case", () => {
  const rules: ClaimRule[] = [{
    claim: "groups",
    value: "admins",
    roleAttributes: ["x"],
    adminRole: "admin",
  }];
  for (const groups of ["Admins", "admins ", ["/admins"], "admins,users", [["admins"]], { x: "admins" }]) {
    assert.equal(map({ groups }, rules).matched, false, JSON.stringify(groups));
  }
  assert.equal(map({ groups: { admins: {} } }, rules).adminRole, "admin");
});

Deno.test("mapClaims() leaves out a value that is no attribute, in place of bending it into another", () => {
  const groups = ["a b", "#dev", "@bob", "", "x\u0000", "all", "ok", "/team/dev", "y".repeat(200)];
  const { roleAttributes } = map({ groups }, [{ claim: "groups", roleAttributes: ["{value}"] }]);
  assert.deepEqual(roleAttributes, ["/team/dev", "ok"]);
});

Deno.test("mapClaims() does not read patterns in values", () => {
  const { roleAttributes } = map({ groups: ["$&", "$'x"] }, [{
    claim: "groups",
    roleAttributes: ["g-{value}"],
  }]);
  assert.deepEqual(roleAttributes, ["g-$&", "g-$'x"]);
});

Deno.test("mapClaims() does not believe an address that the provider has not verified", () => {
  const rules: ClaimRule[] = [{ claim: "email", value: "boss@example.com", roleAttributes: ["boss"] }];
  const claims = { email: "boss@example.com", email_verified: false };
  const mapped = map(claims, rules, { nameClaim: "email" });
  assert.equal(mapped.matched, false);
  assert.equal(mapped.name, "u-1");
  assert.equal(
    map({ ...claims, email_verified: true }, rules, { nameClaim: "email" }).name,
    "boss-example.com",
  );
});

Deno.test("mapClaims() bounds how many attributes a login brings", () => {
  const groups = Array.from({ length: 5000 }, (_, i) => `g${i}`);
  assert.equal(
    map({ groups }, [{ claim: "groups", roleAttributes: ["{value}"] }]).roleAttributes.length,
    256,
  );
});

Deno.test("mapClaims() makes an identity's name of whatever a claim holds", () => {
  const names: Record<string, string> = {
    "Alice": "alice",
    "alice@example.com": "alice-example.com",
    "../../etc": "etc",
    "--x--": "x",
    "Ünïcödé": "n-c-d",
    "…": "u-1",
  };
  for (const [claim, name] of Object.entries(names)) {
    assert.equal(map({ preferred_username: claim }, []).name, name);
  }
  fc.assert(fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (value, sub) => {
    const { name } = mapClaims({ ...BASE, sub, preferred_username: value }, provider([]));
    makeSpiffeId({ trustDomain: "example.internal", kind: "user", name: `${name}-0123456789ab` });
  }));
});

Deno.test("decidesRoles() is true once a rule gives a role", () => {
  assert.equal(decidesRoles(provider([{ claim: "a", roleAttributes: [] }])), false);
  assert.equal(decidesRoles(provider([{ claim: "a", roleAttributes: [], adminRole: "viewer" }])), true);
});

function map(claims: object, rules: readonly ClaimRule[], change: Partial<AuthProviderSpec> = {}) {
  return mapClaims({ ...BASE, ...claims }, { ...provider(rules), ...change });
}

function provider(rules: readonly ClaimRule[]): AuthProviderSpec {
  return {
    issuer: BASE.iss,
    clientId: "ginnel",
    scopes: ["openid"],
    nameClaim: "preferred_username",
    rules,
    requireMatch: false,
    disabled: false,
  };
}
