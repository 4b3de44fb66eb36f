/** Where a login gets the public keys of providers from. */

import type { JWK } from "jose";

/** Finds providers' public keys; `io/oidc` has the adapter. */
export interface ProviderKeys {
  /** The keys of an issuer, fetched again for an unknown `kid` at bounded intervals; throws when there are none. */
  keys(issuer: string, wanted: { readonly kid: string | undefined }): Promise<readonly JWK[]>;
}
