/**
 * Issues a complete identity: key, certificate and trust, as the text of an identity file.
 */

import type { JWK } from "jose";
import type { CaBundle } from "./pki.ts";
import type { IdentityKind } from "./spiffe_id.ts";

/** Makes the text of a new identity file, ready for `writeSecretFile` or `parseIdentity`. */
export function issueIdentity(
  _ca: CaBundle,
  _options: {
    readonly kind: IdentityKind;
    readonly name: string;
    readonly now: number;
    readonly days: number;
    /** Public keys that may sign views. */
    readonly authorities: readonly JWK[];
  },
): Promise<string> {
  return Promise.reject(new Error("Not written yet"));
}
