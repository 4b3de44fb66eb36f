/** What comes of an enrolment or renewal, and every reason for which it is refused. */

import type { Resource } from "../../core/network/resources.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";

/** Why nothing was issued. */
export type EnrolmentRefusal =
  /** The token is not one of this network, or not any more: `code` of an `IdentityError` says which. */
  | "token"
  | "token-used"
  | "token-unknown"
  | "csr"
  | "identity-unknown"
  | "identity-disabled"
  /** Its certificates come from logins alone: its provider may not vouch for it any more. */
  | "login-needed"
  | "certificate-revoked";

/** A certificate with the network's facts, or why there is none. */
export type EnrolmentResult =
  | {
    readonly ok: true;
    /** SPIFFE ID. */
    readonly identity: string;
    /** PEM. */
    readonly certificate: string;
    /** Milliseconds since the epoch. */
    readonly notAfter: number;
    /** The signed network document. */
    readonly network: string;
  }
  | {
    readonly ok: false;
    readonly reason: EnrolmentRefusal;
    /** One sentence for a person. */
    readonly detail: string;
  };

/** A refusal. */
export type Refused = Extract<EnrolmentResult, { readonly ok: false }>;

/** Kinds of identities that devices enrol as: controllers make their own, workloads bring theirs. */
const ENROLLABLE = ["relay", "connector", "agent", "user"] as const;

/** A kind of identity that devices enrol as. */
export type EnrollableKind = typeof ENROLLABLE[number];

/** Ends a transaction without its changes: a token is not used up by an enrolment that is refused. */
export class Rollback extends Error {
  readonly refused: Refused;

  constructor(refused: Refused) {
    super(refused.reason);
    this.refused = refused;
  }

  static toRefusal(this: void, error: unknown): Refused {
    if (error instanceof Rollback) return error.refused;
    throw error;
  }
}

const DETAILS: Readonly<Record<EnrolmentRefusal, string>> = {
  "token": "The token cannot be used",
  "token-used": "The token was used already: ask the administrator for a new one",
  "token-unknown": "The token was taken back or has expired: ask the administrator for a new one",
  "csr": "The certificate signing request cannot be used",
  "identity-unknown": "There is no such identity any more: ask the administrator",
  "identity-disabled": "The identity is disabled: ask the administrator",
  "login-needed": "This identity is a provider's user: log in again with ginnel login",
  "certificate-revoked": "The certificate was revoked: enrol again",
};

/** Makes a refusal; without `detail`, in the words that go with its reason. */
export function refusal(reason: EnrolmentRefusal, detail = DETAILS[reason]): Refused {
  return { ok: false, reason, detail };
}

/** Why an identity gets no certificate now. */
export function judge(identity: Resource<"identity"> | undefined, id: SpiffeId): Refused | undefined {
  if (identity === undefined || identity.spec.spiffeId !== id.uri) return refusal("identity-unknown");
  if (identity.spec.disabled) return refusal("identity-disabled");
  if (identity.spec.origin === "oidc") return refusal("login-needed");
  return undefined;
}

/** Why no token is made for an identity; undefined when one may be. */
export function whyNotEnrollable({ spec }: Resource<"identity">): string | undefined {
  if (!isEnrollable(spec.type)) return `A ${spec.type} does not enrol: it brings its own identity`;
  if (spec.origin === "oidc") return "The identity is a provider's user: it logs in with ginnel login";
  return spec.disabled ? "The identity is disabled: enable it first" : undefined;
}

/** Tells whether devices enrol as identities of this kind. */
export function isEnrollable(kind: string): kind is EnrollableKind {
  return (ENROLLABLE as readonly string[]).includes(kind);
}
