/**
 * Enrolment tokens: one-time JWTs that an administrator hands to a device. A token says who the device will be, where
 * the controllers are, and the fingerprint of the network's CA, which makes the first contact certain.
 */

import { importJWK, type JWK } from "jose";
import { z } from "zod";
import type { Authority } from "./authority.ts";
import { type EnrolmentTokenErrorCode, IdentityError } from "./errors.ts";
import {
  asRefusal,
  CLOCK_TOLERANCE_SECONDS,
  JwsError,
  type JwsFaults,
  readJwsHeader,
  readJwsPayload,
  signJws,
  verifyJws,
} from "./jws.ts";
import { parseSpiffeId, type SpiffeId } from "./spiffe_id.ts";

/** Largest token, in characters. */
export const MAX_ENROLMENT_TOKEN_LENGTH = 8192;

/** The `typ` of an enrolment token: no other token of the network can pass for one. */
const ENROLMENT_TOKEN_TYPE = "ginnel-enrolment+jwt";

const AUDIENCE = "enrolment";

const Fingerprint = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
const ControllerUrl = z.url({ protocol: /^https$/ }).max(1024);

const ClaimsSchema = z.object({
  /** URL of the controller that made it. */
  iss: ControllerUrl,
  /** SPIFFE ID the device gets. */
  sub: z.string().max(2048),
  aud: z.string(),
  jti: z.string().regex(/^[A-Za-z0-9_-]{16,64}$/),
  iat: z.int(),
  exp: z.int(),
  em: z.literal("ott"),
  /** SHA-256 of the issuing CA's certificate, base64url. */
  ca: Fingerprint,
  /** The same of the CA that will issue next, while there is one. */
  caNext: Fingerprint.exactOptional(),
  /** The controllers that will take it. */
  ctl: z.array(z.object({ name: z.string().regex(/^[a-z0-9-]{1,63}$/), url: ControllerUrl })).min(1).max(16)
    .readonly(),
});

/** What a token says. */
export type EnrolmentClaims = Readonly<z.output<typeof ClaimsSchema>>;

/** A token's claims and whose identity it is. */
export interface EnrolmentTokenFacts {
  readonly claims: EnrolmentClaims;
  readonly id: SpiffeId;
}

const TokenHeader = z.object({ typ: z.literal(ENROLMENT_TOKEN_TYPE), kid: z.string() });

/** Signs a token with the authority's key. */
export async function signEnrolmentToken(
  authority: Authority,
  claims: Omit<EnrolmentClaims, "aud" | "em">,
): Promise<string> {
  const payload = ClaimsSchema.parse({ ...claims, aud: AUDIENCE, em: "ott" });
  const token = await signJws(payload, {
    key: authority.privateKey,
    header: { typ: ENROLMENT_TOKEN_TYPE, kid: authority.kid },
  });
  if (token.length > MAX_ENROLMENT_TOKEN_LENGTH) throw tooLarge();
  return token;
}

/** Reads a token as a device does, which cannot verify its signature yet: form, claims and time. */
export function readEnrolmentToken(token: string, options: { readonly now: number }): EnrolmentTokenFacts {
  try {
    readHeader(token);
    return judge(readJwsPayload(token), { ...options, tolerance: CLOCK_TOLERANCE_SECONDS });
  } catch (error) {
    throw asRefusal(error, FAULTS, refuse);
  }
}

/** Verifies a token as a controller does; throws an `IdentityError` with an `ERR_ENROLMENT_TOKEN_*` code. */
export async function verifyEnrolmentToken(
  token: string,
  options: {
    /** Public keys that may sign it. */
    readonly authorities: readonly JWK[];
    readonly trustDomain: string;
    /** URLs of the network's controllers. */
    readonly issuers: readonly string[];
    readonly now: number;
  },
): Promise<EnrolmentTokenFacts> {
  try {
    const kid = readHeader(token);
    const jwk = options.authorities.find((authority) => authority.kid === kid);
    if (jwk === undefined) {
      throw refuse("ERR_ENROLMENT_TOKEN_AUTHORITY", "it is not from this network");
    }
    const payload = await verifyJws(token, await importJWK(jwk, "ES256") as CryptoKey);
    const facts = judge(payload, { now: options.now, tolerance: 0 });
    if (!options.issuers.includes(facts.claims.iss)) {
      throw refuse("ERR_ENROLMENT_TOKEN_ISSUER", "it was made by another controller");
    }
    if (facts.id.trustDomain !== options.trustDomain) {
      throw refuse("ERR_ENROLMENT_TOKEN_TRUST_DOMAIN", "it is for an identity of another network");
    }
    return facts;
  } catch (error) {
    throw asRefusal(error, FAULTS, refuse);
  }
}

function readHeader(token: string): string {
  if (token.length > MAX_ENROLMENT_TOKEN_LENGTH) throw tooLarge();
  const header = TokenHeader.safeParse(readJwsHeader(token));
  if (!header.success) throw new JwsError("malformed", { cause: header.error });
  return header.data.kid;
}

function judge(
  payload: Readonly<Record<string, unknown>>,
  { now, tolerance }: { readonly now: number; readonly tolerance: number },
): EnrolmentTokenFacts {
  const result = ClaimsSchema.safeParse(payload);
  if (!result.success) throw new JwsError("malformed", { cause: result.error });
  const claims = result.data;
  // RFC 7519 §4.1.3: whoever is not meant by the audience must refuse.
  if (claims.aud !== AUDIENCE) throw refuse("ERR_ENROLMENT_TOKEN_AUDIENCE", "it is not for enrolment");
  const seconds = now / 1000;
  // RFC 7519 §4.1.4: on or after its expiry a token must not be accepted.
  if (claims.exp + tolerance <= seconds) {
    const time = new Date(claims.exp * 1000).toISOString();
    throw refuse(
      "ERR_ENROLMENT_TOKEN_EXPIRED",
      `it expired on ${time}`,
      "Ask the administrator for a new one",
    );
  }
  if (claims.iat > seconds + CLOCK_TOLERANCE_SECONDS) {
    const hint = "Check the clocks of both machines";
    throw refuse("ERR_ENROLMENT_TOKEN_NOT_YET_VALID", "it was made in the future", hint);
  }
  return { claims, id: subjectOf(claims) };
}

function subjectOf(claims: EnrolmentClaims): SpiffeId {
  try {
    return parseSpiffeId(claims.sub);
  } catch (cause) {
    throw new JwsError("malformed", { cause });
  }
}

const FAULTS: JwsFaults<EnrolmentTokenErrorCode> = {
  malformed: ["ERR_ENROLMENT_TOKEN_MALFORMED", "it is not an enrolment token, or not all of one"],
  algorithm: ["ERR_ENROLMENT_TOKEN_ALGORITHM", "its algorithm is not ES256"],
  signature: ["ERR_ENROLMENT_TOKEN_SIGNATURE", "the network's authority did not sign it as it is"],
};

function tooLarge(): IdentityError {
  const reason = `it has more than ${MAX_ENROLMENT_TOKEN_LENGTH} characters`;
  return refuse("ERR_ENROLMENT_TOKEN_TOO_LARGE", reason);
}

function refuse(code: EnrolmentTokenErrorCode, reason: string, hint?: string): IdentityError {
  const message = `Cannot accept the enrolment token: ${reason}`;
  return new IdentityError(code, message, hint === undefined ? {} : { hint });
}
