/**
 * The signed form that proofs, views and other tokens share: a compact JWS (RFC 7515), ES256 and nothing else.
 */

import { base64url, type CompactJWSHeaderParameters, CompactSign, compactVerify, errors } from "jose";
import { utf8, utf8Decode } from "../base/bytes.ts";

/** The one signature algorithm in use: a token's own `alg` never chooses another. */
const JWS_ALGORITHM = "ES256";

/** How far two clocks may be apart, in seconds: added to both ends of every time window of a token. */
export const CLOCK_TOLERANCE_SECONDS = 30;

const COMPACT_JWS = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/;

/** Why a token could not be read or verified. */
export type JwsFault = "malformed" | "algorithm" | "signature";

/** A token was refused; callers turn `fault` into their own error code. */
export class JwsError extends Error {
  readonly fault: JwsFault;

  constructor(fault: JwsFault, options?: ErrorOptions) {
    super(`The token's fault: ${fault}`, options);
    this.name = "JwsError";
    this.fault = fault;
  }
}

/** A document's own codes and words for each fault. */
export type JwsFaults<C> = Readonly<Record<JwsFault, readonly [code: C, reason: string]>>;

/** Turns a {@linkcode JwsError} into the document's own error; any other error stays what it is. */
export function asRefusal<C>(
  error: unknown,
  faults: JwsFaults<C>,
  refuse: (code: C, reason: string) => Error,
): unknown {
  return error instanceof JwsError ? refuse(...faults[error.fault]) : error;
}

/** Reads the protected header of a compact JWS without trusting it. */
export function readJwsHeader(token: string): Readonly<Record<string, unknown>> {
  // RFC 7515 §7.1: three base64url parts, unpadded; a second spelling of one token would serve only attackers.
  if (!COMPACT_JWS.test(token)) throw new JwsError("malformed");
  const header = parseJson(decodeSegment(token.slice(0, token.indexOf("."))));
  if (header.alg !== JWS_ALGORITHM) throw new JwsError("algorithm");
  // RFC 7515 §4.1.11: extensions that are not understood must be refused, and none is.
  if ("crit" in header || "b64" in header) throw new JwsError("malformed");
  return header;
}

/** Reads the payload of a compact JWS that nothing has verified: only for what can be checked in another way. */
export function readJwsPayload(token: string): Readonly<Record<string, unknown>> {
  return parseJson(decodeSegment(token.split(".")[1] ?? ""));
}

/** Verifies a compact JWS and returns its payload, a JSON object. */
export async function verifyJws(token: string, key: CryptoKey): Promise<Readonly<Record<string, unknown>>> {
  let payload: Uint8Array;
  try {
    ({ payload } = await compactVerify(token, key, { algorithms: [JWS_ALGORITHM] }));
  } catch (cause) {
    const isSignature = cause instanceof errors.JWSSignatureVerificationFailed;
    throw new JwsError(isSignature ? "signature" : "malformed", { cause });
  }
  return parseJson(payload);
}

/** Signs a JSON object as a compact JWS. */
export async function signJws(
  payload: object,
  options: { readonly key: CryptoKey; readonly header: Omit<CompactJWSHeaderParameters, "alg"> },
): Promise<string> {
  const signer = new CompactSign(utf8(JSON.stringify(payload)));
  signer.setProtectedHeader({ ...options.header, alg: JWS_ALGORITHM });
  return await signer.sign(options.key);
}

function decodeSegment(segment: string): Uint8Array {
  try {
    return base64url.decode(segment);
  } catch (cause) {
    throw new JwsError("malformed", { cause });
  }
}

function parseJson(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(utf8Decode(bytes));
  } catch (cause) {
    throw new JwsError("malformed", { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new JwsError("malformed");
  return value as Readonly<Record<string, unknown>>;
}
