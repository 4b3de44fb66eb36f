/**
 * Issues a complete identity: key, certificate and trust, as the text of an identity file.
 */

import type { JWK } from "jose";
import { formatIdentity } from "./identity_file.ts";
import { type CaBundle, issueCertificate } from "./pki.ts";
import type { IdentityKind, SpiffeId } from "./spiffe_id.ts";

/** What to issue. */
export interface IssueIdentityOptions {
  readonly kind: IdentityKind;
  readonly name: string;
  readonly now: number;
  readonly days: number;
  /** Public keys that may sign views. */
  readonly authorities: readonly JWK[];
}

/** A new identity; `text` holds its private key: store it by `writeSecretFile`. */
export interface IssuedIdentity {
  readonly id: SpiffeId;
  readonly text: string;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

/** Makes a new identity: generates its key, issues its certificate and pins what it trusts. */
export async function issueIdentity(ca: CaBundle, options: IssueIdentityOptions): Promise<IssuedIdentity> {
  const { authorities, ...certificate } = options;
  const { id, certificatePem, privateKeyPem, notAfter } = await issueCertificate(ca, certificate);
  const trust = { domain: ca.trustDomain, roots: [ca.certificatePem], authorities };
  return { id, notAfter, text: formatIdentity({ id, certificatePem, privateKeyPem: privateKeyPem!, trust }) };
}
