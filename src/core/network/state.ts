/**
 * What a relay enforces, as its controller states it at one revision. Plain JSON: it travels as it is and is kept on
 * disk for when the controller is away.
 */

import type { IdentitySpec, ServicePolicySpec, ServiceSpec, TrustDomainSpec } from "./resources.ts";

/** A network at one revision; lists are keyed by resource id. */
export interface NetworkState {
  readonly trustDomain: string;
  readonly revision: number;
  readonly identities: ReadonlyMap<string, NamedSpec<NetworkIdentity>>;
  readonly services: ReadonlyMap<string, NamedSpec<NetworkService>>;
  readonly servicePolicies: ReadonlyMap<string, NamedSpec<ServicePolicySpec>>;
  readonly trustDomains: ReadonlyMap<string, NamedSpec<TrustDomainSpec>>;
  /** The active egress policy's document, in the shape of egress policy files; null: no tunnels for anybody. */
  readonly egress: Readonly<Record<string, unknown>> | null;
  /** Serial numbers of revoked certificates that have not expired, upper-case hexadecimal. */
  readonly revoked: ReadonlySet<string>;
  /** The network's CA certificates, PEM, the issuing one first. */
  readonly roots: readonly string[];
  /** Tunnel pools as prefixes, null for none. */
  readonly pools: { readonly ipv4: string | null; readonly ipv6: string | null };
}

/** A resource's name and content. */
export interface NamedSpec<S> {
  readonly name: string;
  readonly spec: S;
}

/** What relays need of an identity. */
export type NetworkIdentity = Pick<
  IdentitySpec,
  "type" | "spiffeId" | "roleAttributes" | "derivedAttributes" | "disabled" | "address"
>;

/** What relays and agents need of a service; its configs by type. */
export interface NetworkService
  extends Pick<ServiceSpec, "encryptionRequired" | "roleAttributes" | "idleTimeout" | "index"> {
  readonly configs: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}
