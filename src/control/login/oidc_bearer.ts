/** Administrators who show the API an ID token of their provider in place of an API token. */

import type { AdminRole } from "../../core/network/resources.ts";
import { decidesRoles, mapClaims } from "./map_claims.ts";
import { peekIdToken, verifyIdToken } from "../../identity/oidc/verify_id_token.ts";
import type { Store } from "../store.ts";
import type { ProviderKeys } from "./provider_keys.ts";
import { findUser } from "./user_identity.ts";

/** What verification needs. */
export interface OidcBearerPorts {
  readonly store: Pick<Store, "list">;
  readonly providers: ProviderKeys;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Most providers of one issuer that are tried for one token. */
const MAX_PROVIDERS = 8;

/**
 * Who an ID token makes of its bearer at the API; undefined when it is no valid one, or gives no role. A disabled user
 * stays out. Throws when the provider's keys cannot be had.
 */
export async function verifyOidcBearer(
  token: string,
  ports: OidcBearerPorts,
): Promise<{ readonly who: string; readonly role: AdminRole } | undefined> {
  const peeked = peekIdToken(token);
  if (peeked === undefined) return undefined;
  const { items } = await ports.store.list("auth-provider", {
    limit: MAX_PROVIDERS,
    where: { issuer: peeked.issuer, disabled: false },
  });
  for (const { spec } of items) {
    if (!peeked.audiences.includes(spec.clientId)) continue;
    const { issuer, clientId } = spec;
    const verdict = await verifyIdToken(token, {
      issuer,
      clientId,
      keys: (wanted) => ports.providers.keys(issuer, wanted),
      now: ports.now(),
    });
    if (!verdict.ok) continue;
    const mapped = mapClaims(verdict.claims, spec);
    if (spec.requireMatch && !mapped.matched) continue;
    const user = await findUser(ports.store, mapped.externalId);
    if (user === "ambiguous" || user?.spec.disabled === true) return undefined;
    const role = decidesRoles(spec) ? mapped.adminRole : user?.spec.adminRole ?? null;
    if (role !== null) return { who: `oidc:${mapped.externalId}`, role };
  }
  return undefined;
}
