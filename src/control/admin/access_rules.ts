/**
 * Rights that depend on what is written, beside those the API checks by role and collection: nobody may give, take or
 * use up access to the API who does not have all of it.
 */

import { mayGrantAccess, type Principal } from "../../core/network/access.ts";
import type { ResourceInputs } from "../../core/network/administration.ts";
import type {
  AuthProviderSpec,
  IdentitySpec,
  ResourceKind,
  ResourceSpecs,
} from "../../core/network/resources.ts";
import { refuse } from "./decide.ts";

/** Refuses a write that touches access to the API by a caller who may not grant it. */
export function requireGrant<K extends ResourceKind>(
  kind: K,
  by: Principal,
  specs: readonly ResourceSpecs[K][],
): void {
  if (mayGrantAccess(by)) return;
  const touches = specs.some((spec) => {
    if (kind === "identity") return (spec as IdentitySpec).adminRole !== null;
    if (kind === "auth-provider") {
      return (spec as AuthProviderSpec).rules.some(({ adminRole }) => adminRole !== undefined);
    }
    return false;
  });
  if (touches) {
    refuse({
      fault: "forbidden",
      detail: "Only an administrator without scopes may touch access to the API",
    });
  }
}

/** Refuses a token that could do more than the caller who makes it. */
export function requireNarrower(by: Principal, token: ResourceInputs["api-token"]): void {
  if (mayGrantAccess(by)) return;
  const isWithin = token.scopes.length > 0 && token.scopes.every((scope) => by.scopes.includes(scope));
  if (!isWithin) refuse({ fault: "forbidden", detail: "A token cannot have scopes that yours has not" });
}
