/** Who may do what at the API. */

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  accessFault,
  API_COLLECTIONS,
  mayGrantAccess,
  type Principal,
} from "../../../src/core/network/access.ts";

const COLLECTION = fc.constantFrom(...API_COLLECTIONS);
const GUARDED = ["trust-domains", "auth-providers", "api-tokens"];

Deno.test("a scope never widens a role, and what is not named by it is out of reach", () => {
  fc.assert(fc.property(
    fc.constantFrom("viewer", "operator", "admin", "relay"),
    fc.array(COLLECTION, { minLength: 1 }),
    COLLECTION,
    fc.boolean(),
    (role, scopes, collection, write) => {
      const fault = accessFault(caller(role, scopes), { collection, write });
      if (!scopes.includes(collection)) assert.equal(fault, "scope");
      else assert.equal(fault, accessFault(caller(role), { collection, write }));
    },
  ));
});

Deno.test("a viewer writes nothing, an operator nothing that gives access, a relay only addresses", () => {
  for (const collection of API_COLLECTIONS) {
    const may = (role: Principal["role"], write: boolean) =>
      accessFault(caller(role), { collection, write }) === undefined;
    assert.equal(may("viewer", true), false, collection);
    assert.equal(may("operator", true), !GUARDED.includes(collection), collection);
    assert.equal(may("admin", true) && may("admin", false), true, collection);
    assert.equal(may("relay", true) || may("relay", false), collection === "ipam", collection);
    const isOpen = collection !== "api-tokens" && collection !== "auth-providers";
    assert.deepEqual([may("viewer", false), may("operator", false)], [isOpen, isOpen], collection);
  }
});

Deno.test("only an administrator without scopes gives access to others", () => {
  assert.equal(mayGrantAccess(caller("admin")), true);
  assert.equal(mayGrantAccess(caller("admin", ["identities"])), false);
  assert.equal(mayGrantAccess(caller("operator")), false);
  assert.equal(mayGrantAccess(caller("relay")), false);
});

function caller(role: Principal["role"], scopes: readonly string[] = []): Principal {
  return { who: "token:1", role, scopes };
}
