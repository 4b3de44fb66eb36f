/**
 * Renewals: how one end of a live end-to-end session shows the other that it holds a newer certificate of the same
 * identity. A renewal names the peer and the session it is for, so that it means nothing anywhere else.
 */

import { z } from "zod";
import { type CertificateReference, type VerifiedChain, verifyChain } from "./chain.ts";
import type { ForeignTrust, Identity } from "./identity_file.ts";
import { decodeBase64 } from "./pem.ts";
import {
  assertWindow,
  CommonClaims,
  commonClaims,
  MAX_PROOF_LENGTH,
  readClaims,
  readX5c,
  refuseProof,
  signProof,
} from "./proof_token.ts";

/** Which session a renewal is for: the two ends by their SPIFFE IDs, and the session's public id. */
export interface RenewalScope {
  /** Whose certificate is renewed. */
  readonly subject: string;
  /** Who is to accept it. */
  readonly audience: string;
  readonly session: string;
}

/** How to judge a renewal. */
export interface VerifyRenewalOptions extends RenewalScope {
  /** The network's own CA certificates, PEM. */
  readonly roots: readonly string[];
  readonly trustDomain?: string;
  readonly foreign?: readonly ForeignTrust[];
  readonly isRevoked?: (certificate: CertificateReference) => boolean;
  readonly purpose: "client" | "server";
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** Largest renewal accepted, in bytes. */
export const MAX_RENEWAL_LENGTH = MAX_PROOF_LENGTH;

/** The `typ` of a renewal: neither it nor a proof can pass for the other. */
const RENEWAL_TYPE = "ginnel-renewal+jwt";

const RenewalClaims = CommonClaims.extend({ ses: z.string() });

/** Makes a renewal. */
export async function createRenewal(
  identity: Identity,
  options: { readonly audience: string; readonly session: string; readonly now: number },
): Promise<string> {
  const { audience, session, now } = options;
  const claims = { ...commonClaims({ identity, audience, now }), ses: session };
  return await signProof(claims, { identity, type: RENEWAL_TYPE });
}

/** Verifies a renewal and returns the newer chain; throws an `IdentityError` whose code says why not. */
export async function verifyRenewal(token: string, options: VerifyRenewalOptions): Promise<VerifiedChain> {
  const { subject, audience, session, now, ...trust } = options;
  const chain = await verifyChain({ ...trust, chain: readX5c(token, RENEWAL_TYPE).map(decodeBase64), now });
  const claims = await readClaims(token, { key: chain.publicKey, schema: RenewalClaims });
  if (chain.id.uri !== subject || claims.sub !== subject || claims.iss !== subject) {
    throw refuseProof("ERR_SUBJECT_MISMATCH", "it is not of the identity at the other end of the session");
  }
  if (claims.aud !== audience) throw refuseProof("ERR_PROOF_AUDIENCE", "it is for somebody else");
  if (claims.ses !== session) throw refuseProof("ERR_PROOF_SESSION", "it is for another session");
  assertWindow(claims, now);
  return chain;
}
