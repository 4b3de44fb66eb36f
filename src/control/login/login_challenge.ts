/**
 * Challenges: what a device asks for before it sends its user to a provider. Signed, not stored, so that any controller of
 * the network can check one; only the hash of it, the nonce, ever leaves the device before the login.
 */

import { createHash } from "node:crypto";
import { importJWK } from "jose";
import type { Authority } from "../../identity/authority.ts";
import { CLOCK_TOLERANCE_SECONDS, JwsError, readJwsHeader, signJws, verifyJws } from "../../identity/jws.ts";

/** How long a user has for the whole login, in milliseconds. */
const CHALLENGE_LIFETIME = 10 * 60_000;

/** Longest challenge, in characters; ours have some 300. */
export const MAX_CHALLENGE_LENGTH = 1024;

/** The `typ` of a challenge: no other token of the network can pass for one. */
const CHALLENGE_TYPE = "ginnel-login+jwt";

/** A new challenge. */
export interface LoginChallenge {
  readonly challenge: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** A verified challenge, or why it is none. */
export type ChallengeVerdict =
  | { readonly ok: true; readonly nonce: string; readonly issuedAt: number; readonly expiresAt: number }
  | { readonly ok: false; readonly reason: "challenge" | "challenge-expired" };

/** Makes a challenge. */
export async function createChallenge(authority: Authority, now: number): Promise<LoginChallenge> {
  const expiresAt = now + CHALLENGE_LIFETIME;
  const payload = { iat: now / 1000, exp: expiresAt / 1000, jti: crypto.randomUUID() };
  const header = { typ: CHALLENGE_TYPE, kid: authority.kid };
  return { challenge: await signJws(payload, { key: authority.privateKey, header }), expiresAt };
}

/** Verifies a challenge, whichever controller made it. */
export async function verifyChallenge(
  challenge: string,
  { authority, now }: { readonly authority: Authority; readonly now: number },
): Promise<ChallengeVerdict> {
  if (challenge.length > MAX_CHALLENGE_LENGTH) return { ok: false, reason: "challenge" };
  let payload: Readonly<Record<string, unknown>>;
  try {
    const { typ, kid } = readJwsHeader(challenge);
    if (typ !== CHALLENGE_TYPE || kid !== authority.kid) return { ok: false, reason: "challenge" };
    payload = await verifyJws(challenge, await importJWK(authority.publicJwk, "ES256") as CryptoKey);
  } catch (error) {
    if (error instanceof JwsError) return { ok: false, reason: "challenge" };
    throw error;
  }
  const issuedAt = Number(payload.iat) * 1000;
  const expiresAt = Number(payload.exp) * 1000;
  const early = issuedAt - CLOCK_TOLERANCE_SECONDS * 1000;
  if (!(now < expiresAt && now >= early)) return { ok: false, reason: "challenge-expired" };
  return { ok: true, nonce: nonceOf(challenge), issuedAt, expiresAt };
}

/**
 * What a provider is given as `nonce` for a challenge. One signature has two spellings, so only what was signed counts:
 * whoever respells it gains no second challenge.
 */
export function nonceOf(challenge: string): string {
  return createHash("sha256").update(challenge.slice(0, challenge.lastIndexOf("."))).digest("base64url");
}
