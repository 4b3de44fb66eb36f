/**
 * ID tokens of OpenID providers: signature, issuer, audience, time and nonce. A token is whatever a client hands in, so
 * every way to be wrong is a value that the audit log can name.
 */

import { base64url, compactVerify, importJWK, type JWK } from "jose";
import { utf8Decode } from "../../base/bytes.ts";
import { CLOCK_TOLERANCE_SECONDS } from "../jws.ts";

/** Signature algorithms that are accepted, and the key each takes. Nothing symmetric: its key would be a public one. */
const ALGORITHMS: Readonly<Record<string, { readonly kty: string; readonly crv?: string }>> = {
  RS256: { kty: "RSA" },
  PS256: { kty: "RSA" },
  ES256: { kty: "EC", crv: "P-256" },
  EdDSA: { kty: "OKP", crv: "Ed25519" },
};

/** Longest token, in characters: with hundreds of groups one has some 10,000. */
export const MAX_ID_TOKEN_LENGTH = 32_768;

/** Keys tried for a token that does not name its own; each costs a signature check. */
const MAX_CANDIDATES = 4;

/** Longest subject, in characters: OpenID Connect Core §2 allows 255. */
const MAX_SUBJECT_LENGTH = 255;

const COMPACT_JWS = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

/** Why a token is refused. */
export type IdTokenFault =
  | "malformed"
  | "too-large"
  | "algorithm"
  | "type"
  | "unknown-key"
  | "signature"
  | "issuer"
  | "audience"
  | "authorized-party"
  | "subject"
  | "expired"
  | "not-yet-valid"
  | "nonce";

/** Claims of a verified token. */
export interface IdTokenClaims extends Readonly<Record<string, unknown>> {
  readonly iss: string;
  readonly sub: string;
  /** Seconds since the epoch. */
  readonly iat: number;
  /** Seconds since the epoch. */
  readonly exp: number;
}

/** A verified token's claims, or what is wrong with it. */
export type IdTokenVerdict =
  | { readonly ok: true; readonly claims: IdTokenClaims; readonly nonce: string | undefined }
  | { readonly ok: false; readonly fault: IdTokenFault };

/** Which key a token asks for. */
export interface WantedKey {
  readonly kid: string | undefined;
  readonly alg: string;
}

/** What a token must be. */
export interface IdTokenExpectation {
  /** Exactly the token's `iss`. */
  readonly issuer: string;
  /** Among the token's `aud`. */
  readonly clientId: string;
  /** The issuer's public keys; may throw when they cannot be had. */
  readonly keys: (wanted: WantedKey) => Promise<readonly JWK[]>;
  /** `nonce` values of which a token that has one must have one; absent: it may have any. */
  readonly nonces?: readonly string[];
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** Verifies an ID token; nothing of it may be used unless the verdict is `ok`. */
export async function verifyIdToken(token: string, expected: IdTokenExpectation): Promise<IdTokenVerdict> {
  if (token.length > MAX_ID_TOKEN_LENGTH) return refuse("too-large");
  const header = COMPACT_JWS.test(token) ? readObject(token.split(".")[0]!) : undefined;
  if (header === undefined) return refuse("malformed");
  const { alg, kid, typ } = header;
  // RFC 8725 §3.1: the verifier decides on the algorithm, never the token.
  if (typeof alg !== "string" || !Object.hasOwn(ALGORITHMS, alg)) return refuse("algorithm");
  // RFC 8725 §3.11: a logout token or an access token is signed by the same keys and is no login.
  if (typ !== undefined && !(typeof typ === "string" && typ.toUpperCase() === "JWT")) return refuse("type");
  if ("crit" in header || "b64" in header) return refuse("malformed");
  if (kid !== undefined && typeof kid !== "string") return refuse("malformed");
  const keys = fitting(await expected.keys({ kid, alg }), { kid, alg });
  if (keys.length === 0) return refuse("unknown-key");
  for (const key of keys.slice(0, MAX_CANDIDATES)) {
    const payload = await verifiedPayload(token, key, alg);
    if (payload !== undefined) return judge(payload, expected);
  }
  return refuse("signature");
}

/** What a token claims about where it comes from, without any trust in it: only to choose whose keys to try. */
export function peekIdToken(
  token: string,
): { readonly issuer: string; readonly audiences: readonly string[] } | undefined {
  if (token.length > MAX_ID_TOKEN_LENGTH || !COMPACT_JWS.test(token)) return undefined;
  const claims = readObject(token.split(".")[1]!);
  const audiences = claims === undefined ? undefined : audiencesOf(claims.aud);
  if (typeof claims?.iss !== "string" || audiences === undefined) return undefined;
  return { issuer: claims.iss, audiences };
}

/** A public key that an ID token of this algorithm may be signed by; others of the set are not ours to judge. */
function fitting(keys: readonly JWK[], { kid, alg }: WantedKey): JWK[] {
  const { kty, crv } = ALGORITHMS[alg]!;
  return keys.filter((key) =>
    key.kty === kty && (crv === undefined || key.crv === crv) &&
    (key.alg === undefined || key.alg === alg) && (key.use === undefined || key.use === "sig") &&
    (kid === undefined || key.kid === kid)
  );
}

async function verifiedPayload(token: string, jwk: JWK, alg: string): Promise<Uint8Array | undefined> {
  try {
    const key = await importJWK(jwk, alg);
    return (await compactVerify(token, key, { algorithms: [alg] })).payload;
  } catch {
    // A wrong signature and a key that cannot be used come to the same: this key vouches for nothing.
    return undefined;
  }
}

function judge(payload: Uint8Array, expected: IdTokenExpectation): IdTokenVerdict {
  const claims = parseObject(payload);
  if (claims === undefined) return refuse("malformed");
  const { iss, sub, aud, azp, iat, exp, nbf, nonce } = claims;
  if (iss !== expected.issuer) return refuse("issuer");
  const audiences = audiencesOf(aud);
  // RFC 7519 §4.1.3: a token that is not meant for us must be refused.
  if (audiences === undefined || !audiences.includes(expected.clientId)) return refuse("audience");
  const isForeignParty = azp !== undefined && azp !== expected.clientId;
  if (isForeignParty || (audiences.length > 1 && azp === undefined)) return refuse("authorized-party");
  if (typeof sub !== "string" || sub === "" || sub.length > MAX_SUBJECT_LENGTH) return refuse("subject");
  // Back-channel logout tokens carry it, some of them without a type of their own.
  if ("events" in claims) return refuse("type");
  if (!isTime(exp) || !isTime(iat) || !(nbf === undefined || isTime(nbf))) return refuse("malformed");
  const now = expected.now / 1000;
  // RFC 7519 §4.1.4: not on or after its expiry.
  if (now >= exp + CLOCK_TOLERANCE_SECONDS) return refuse("expired");
  if (now < Math.max(iat, nbf ?? iat) - CLOCK_TOLERANCE_SECONDS) return refuse("not-yet-valid");
  if (nonce !== undefined && typeof nonce !== "string") return refuse("malformed");
  const { nonces } = expected;
  if (nonce !== undefined && nonces !== undefined && !nonces.includes(nonce)) return refuse("nonce");
  return { ok: true, claims: { ...claims, iss: expected.issuer, sub, iat, exp }, nonce };
}

function audiencesOf(aud: unknown): readonly string[] | undefined {
  if (typeof aud === "string") return [aud];
  return Array.isArray(aud) && aud.every((entry) => typeof entry === "string") ? aud : undefined;
}

function isTime(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value > 0;
}

function readObject(segment: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return parseObject(base64url.decode(segment));
  } catch {
    return undefined;
  }
}

function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(utf8Decode(bytes));
  } catch {
    return undefined;
  }
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject ? value as Readonly<Record<string, unknown>> : undefined;
}

function refuse(fault: IdTokenFault): IdTokenVerdict {
  return { ok: false, fault };
}
