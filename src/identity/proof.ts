/**
 * Proofs: the short signed assertion by which an identity shows itself to a relay.
 */

import type { CertificateReference } from "./chain.ts";
import type { Identity } from "./identity_file.ts";
import type { SpiffeId } from "./spiffe_id.ts";

/** Makes a proof for one relay; send it once, within a minute, as `Authorization: Bearer`. */
export function createProof(
  _options: {
    readonly identity: Identity;
    /** The relay's name, such as "relay-1". */
    readonly audience: string;
    /** Milliseconds since the epoch. */
    readonly now: number;
    readonly rng?: (target: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
  },
): Promise<string> {
  return Promise.reject(new Error("Not written yet"));
}

/** Who showed a valid proof. */
export interface VerifiedProof {
  readonly id: SpiffeId;
  /** When the certificate ends, milliseconds since the epoch. */
  readonly notAfter: number;
  /** Upper-case hexadecimal. */
  readonly certificateSerial: string;
}

/** How a verifier judges. */
export interface ProofVerifierOptions {
  /** Trusted CA certificates, PEM. */
  readonly roots: readonly string[];
  /** The relay's own name. */
  readonly audience: string;
  readonly trustDomain: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly isRevoked?: (certificate: CertificateReference) => boolean;
}

/** Verifies proofs for one relay. */
export class ProofVerifier {
  constructor(_options: ProofVerifierOptions) {}

  /** Returns who is asking; throws an `IdentityError`. */
  verify(_token: string): Promise<VerifiedProof> {
    return Promise.reject(new Error("Not written yet"));
  }
}
