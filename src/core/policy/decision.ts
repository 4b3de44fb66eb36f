/** The answer to "may this identity do that", with a closed list of reasons fit for logs and metric labels. */

/** Why a right is refused. */
export const DENY_REASONS = [
  /** No such service is declared. */
  "unknown_service",
  /** No policy joins the identity and the service. */
  "no_matching_policy",
  /** A relay: it carries other people's flows and holds no right of its own. */
  "identity_without_rights",
] as const;

/** One of {@linkcode DENY_REASONS}. */
export type DenyReason = typeof DENY_REASONS[number];

/** A verdict with its why: the policy that allowed it, or the reason it is refused. */
export type Decision =
  | { readonly verdict: "allow"; readonly policy: string }
  | { readonly verdict: "deny"; readonly reason: DenyReason };
