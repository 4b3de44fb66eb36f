/**
 * The offline certificate authority: makes a network's CA and issues SPIFFE certificates (ECDSA P-256).
 */

import type { IdentityKind, SpiffeId } from "./spiffe_id.ts";

/** A certificate authority with its private key. */
export interface CaBundle {
  readonly trustDomain: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly privateKey: CryptoKey;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

/** A freshly issued certificate, with its private key if the CA generated it. */
export interface IssuedCertificate {
  readonly id: SpiffeId;
  readonly certificatePem: string;
  readonly privateKeyPem: string | undefined;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

/** Makes a self-signed CA for one trust domain. */
export function createCa(
  _options: { readonly trustDomain: string; readonly now: number; readonly days: number },
): Promise<CaBundle> {
  return Promise.reject(new Error("Not written yet"));
}

/** What to issue; without `publicKey` a key pair is generated. */
export interface IssueOptions {
  readonly kind: IdentityKind;
  readonly name: string;
  readonly now: number;
  readonly days: number;
  readonly publicKey?: CryptoKey;
}

/** Issues a certificate signed by `ca`. */
export function issueCertificate(_ca: CaBundle, _options: IssueOptions): Promise<IssuedCertificate> {
  return Promise.reject(new Error("Not written yet"));
}
