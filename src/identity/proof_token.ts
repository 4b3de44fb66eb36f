/**
 * What proofs to relays and renewals between peers have in common: a short-lived JWS whose `x5c` header shows the
 * certificate chain of whoever signed it.
 */

import { z } from "zod";
import { MAX_CHAIN_LENGTH } from "./chain.ts";
import { IdentityError, type ProofErrorCode } from "./errors.ts";
import type { Identity } from "./identity_file.ts";
import {
  asRefusal,
  CLOCK_TOLERANCE_SECONDS,
  JwsError,
  type JwsFaults,
  readJwsHeader,
  signJws,
  verifyJws,
} from "./jws.ts";
import { encodeBase64 } from "./pem.ts";

/** Largest proof accepted, in bytes; ours have about 1,300. */
export const MAX_PROOF_LENGTH = 8192;

/** Longest life of a proof that a verifier accepts, in seconds. */
const MAX_PROOF_LIFETIME_SECONDS = 60;

/** The life that proofs are given, in seconds: enough for a slow handshake. */
export const PROOF_LIFETIME_SECONDS = 30;

/** The claims that every proof has. */
export const CommonClaims = z.object({
  iss: z.string(),
  sub: z.string(),
  aud: z.string(),
  iat: z.int(),
  exp: z.int(),
  nbf: z.int().optional(),
});

type CommonClaims = z.output<typeof CommonClaims>;

const X5c = z.array(z.string()).min(1).max(MAX_CHAIN_LENGTH + 1);

const encodedChains = new WeakMap<Identity, readonly string[]>();

/** The common claims of a proof made now. */
export function commonClaims(
  options: { readonly identity: Identity; readonly audience: string; readonly now: number },
): CommonClaims {
  const { identity, audience, now } = options;
  const iat = Math.floor(now / 1000);
  const { uri } = identity.id;
  return { iss: uri, sub: uri, aud: audience, iat, exp: iat + PROOF_LIFETIME_SECONDS };
}

/** Signs claims by the identity's key and shows its chain. */
export async function signProof(
  claims: CommonClaims,
  options: { readonly identity: Identity; readonly type: string },
): Promise<string> {
  const { identity, type } = options;
  let x5c = encodedChains.get(identity);
  if (x5c === undefined) encodedChains.set(identity, x5c = identity.chainDer.map(encodeBase64));
  return await signJws(claims, { key: identity.privateKey, header: { typ: type, x5c: [...x5c] } });
}

/** Reads the chain, base64, that a proof of this type shows; nothing of it is verified. */
export function readX5c(token: string, type: string): readonly string[] {
  if (token.length > MAX_PROOF_LENGTH) {
    throw refuseProof(
      "ERR_PROOF_TOO_LARGE",
      `it has ${token.length} characters, more than ${MAX_PROOF_LENGTH}`,
    );
  }
  try {
    const header = readJwsHeader(token);
    const x5c = X5c.safeParse(header.x5c);
    if (header.typ !== type || !x5c.success) throw new JwsError("malformed", { cause: x5c.error });
    return x5c.data;
  } catch (error) {
    throw asRefusal(error, FAULTS, refuseProof);
  }
}

/** Verifies a proof's signature by `key` and returns its claims. */
export async function readClaims<T extends z.ZodType>(
  token: string,
  options: { readonly key: CryptoKey; readonly schema: T },
): Promise<z.output<T>> {
  try {
    const result = options.schema.safeParse(await verifyJws(token, options.key));
    if (!result.success) throw new JwsError("malformed", { cause: result.error });
    return result.data;
  } catch (error) {
    throw asRefusal(error, FAULTS, refuseProof);
  }
}

/** Throws unless `now` (milliseconds) lies in a proof's short life. */
export function assertWindow(claims: CommonClaims, now: number): void {
  const { iat, exp, nbf = iat } = claims;
  const seconds = now / 1000;
  if (exp <= iat || exp - iat > MAX_PROOF_LIFETIME_SECONDS) {
    throw refuseProof("ERR_PROOF_LIFETIME", `it must live for 1 to ${MAX_PROOF_LIFETIME_SECONDS} seconds`);
  }
  if (Math.max(iat, nbf) > seconds + CLOCK_TOLERANCE_SECONDS) {
    throw refuseProof(
      "ERR_PROOF_NOT_YET_VALID",
      "it was made in the future",
      "Check the clocks of both machines",
    );
  }
  if (exp + CLOCK_TOLERANCE_SECONDS <= seconds) {
    throw refuseProof("ERR_PROOF_EXPIRED", "it has expired", "Check the clocks of both machines");
  }
}

/** The error for a proof that is refused. */
export function refuseProof(code: ProofErrorCode, reason: string, hint?: string): IdentityError {
  return new IdentityError(code, `Cannot accept the proof: ${reason}`, hint === undefined ? {} : { hint });
}

const FAULTS: JwsFaults<ProofErrorCode> = {
  malformed: ["ERR_PROOF_MALFORMED", "it is not a proof"],
  algorithm: ["ERR_PROOF_ALGORITHM", "its algorithm is not ES256"],
  signature: ["ERR_PROOF_SIGNATURE", "the certificate's key did not sign it"],
};
