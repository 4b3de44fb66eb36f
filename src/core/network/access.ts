/** Who calls the API and what that caller may do there: a pure function of role, scopes and what is touched. */

import type { AdminRole } from "./resources.ts";

/** The collections of the API, which are also what a token's scopes may name. */
export const API_COLLECTIONS = [
  "identities",
  "services",
  "configs",
  "service-policies",
  "policies",
  "trust-domains",
  "auth-providers",
  "api-tokens",
  "relays",
  "connectors",
  "sessions",
  "ipam",
  "audit",
  "network",
] as const;

/** One of {@linkcode API_COLLECTIONS}. */
export type ApiCollection = typeof API_COLLECTIONS[number];

/** An authenticated caller. */
export interface Principal {
  /** `token:<id>`, a SPIFFE ID, or `oidc:<issuer>|<subject>`. */
  readonly who: string;
  /** `relay`: a relay by its proof, which may use addresses only. */
  readonly role: AdminRole | "relay";
  /** Collections it is confined to; empty: all that its role may touch. */
  readonly scopes: readonly string[];
}

/** Why a caller may not; `undefined` where it may. */
export type AccessFault = "role" | "scope" | undefined;

/** Collections that decide who has access: only administrators write them. */
const GUARDED: readonly ApiCollection[] = ["trust-domains", "auth-providers", "api-tokens"];

/** Collections that only administrators read. */
const HIDDEN: readonly ApiCollection[] = ["auth-providers", "api-tokens"];

/** Tells why `principal` may not read or write a collection. */
export function accessFault(
  principal: Principal,
  access: { readonly collection: ApiCollection; readonly write: boolean },
): AccessFault {
  const { collection, write } = access;
  const { role, scopes } = principal;
  if (scopes.length > 0 && !scopes.includes(collection)) return "scope";
  switch (role) {
    case "admin":
      return undefined;
    case "operator":
      return (write ? GUARDED : HIDDEN).includes(collection) ? "role" : undefined;
    case "viewer":
      return write || HIDDEN.includes(collection) ? "role" : undefined;
    case "relay":
      return collection === "ipam" ? undefined : "role";
  }
}

/** Tells whether a caller may give access to others: an administrator whose token is not confined to anything. */
export function mayGrantAccess(principal: Principal): boolean {
  return principal.role === "admin" && principal.scopes.length === 0;
}
