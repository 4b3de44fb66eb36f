/**
 * What relays are told of a change: the new content of what they enforce, without tokens, hashes, providers and
 * configs by themselves.
 */

import type { ServicePolicySpec, TrustDomainSpec } from "./resources.ts";
import type { NamedSpec, NetworkIdentity, NetworkService, NetworkState } from "./state.ts";

/** One entry of a {@linkcode NetworkState} as it is now; `value` null: it is gone. */
export type NetworkChange =
  | Entry<"identity", NetworkIdentity>
  | Entry<"service", NetworkService>
  | Entry<"service-policy", ServicePolicySpec>
  | Entry<"trust-domain", TrustDomainSpec>
  | { readonly kind: "egress"; readonly document: NetworkState["egress"] }
  /** All revoked serials: a list that is complete cannot be applied wrongly. */
  | { readonly kind: "revoked"; readonly serials: readonly string[] }
  | { readonly kind: "roots"; readonly roots: readonly string[] }
  | { readonly kind: "pools"; readonly pools: NetworkState["pools"] };

interface Entry<K, S> {
  readonly kind: K;
  /** Resource id. */
  readonly id: string;
  readonly value: NamedSpec<S> | null;
}
