/**
 * Verification of SPIFFE certificate chains: every link's signature, validity, use and the one SPIFFE ID.
 */

import type { SpiffeId } from "./spiffe_id.ts";

/** What a revocation check is asked about. */
export interface CertificateReference {
  readonly id: SpiffeId;
  /** Serial number, upper-case hexadecimal. */
  readonly serial: string;
}

/** A chain that was verified. */
export interface VerifiedChain {
  readonly id: SpiffeId;
  readonly publicKey: CryptoKey;
  /** Start of the chain's common validity, milliseconds since the epoch. */
  readonly notBefore: number;
  /** End of the chain's common validity, milliseconds since the epoch. */
  readonly notAfter: number;
  /** Serial number of the leaf, upper-case hexadecimal. */
  readonly serial: string;
}

/** How to verify a chain. */
export interface VerifyChainOptions {
  /** The leaf, then each certificate's issuer: PEM blocks in one text, or DER certificates. */
  readonly chain: string | readonly Uint8Array[];
  /** Trusted CA certificates, PEM. */
  readonly roots: readonly string[];
  readonly now: number;
  /** The trust domain the leaf must belong to; default: whatever the root was made for. */
  readonly trustDomain?: string;
  /** What the peer used the certificate for; default "client". */
  readonly purpose?: "client" | "server";
  readonly isRevoked?: (certificate: CertificateReference) => boolean;
}

/** Verifies a chain and returns whose it is; throws an `IdentityError` with an `ERR_CERT_*` code. */
export function verifyChain(_options: VerifyChainOptions): Promise<VerifiedChain> {
  return Promise.reject(new Error("Not written yet"));
}
