/**
 * The resources an administrator manages, by kind: plain data, already validated. The API writes them, the store keeps
 * them, and relays are sent what they enforce of them.
 */

import type { PolicyType, Semantic } from "../policy/document.ts";

/** All kinds of resources. */
export const RESOURCE_KINDS = [
  "identity",
  "service",
  "config",
  "service-policy",
  "egress-policy",
  "trust-domain",
  "auth-provider",
  "api-token",
] as const;

/** One of {@linkcode RESOURCE_KINDS}. */
export type ResourceKind = typeof RESOURCE_KINDS[number];

/** What an administrator may do: a viewer reads, an operator also changes, an admin also manages access itself. */
export const ADMIN_ROLES = ["viewer", "operator", "admin"] as const;

/** One of {@linkcode ADMIN_ROLES}. */
export type AdminRole = typeof ADMIN_ROLES[number];

/** The operator's own notes on a resource; no decision depends on them. */
export type Tags = Readonly<Record<string, unknown>>;

/** How an identity came to be. */
export type IdentityOrigin = "enrolment" | "oidc" | "spiffe" | "import";

/** Somebody or something that may prove who it is. */
export interface IdentitySpec {
  /** `workload`: an identity of a foreign trust domain. */
  readonly type: "relay" | "connector" | "agent" | "user" | "controller" | "workload";
  /** Its SPIFFE ID: the resource's key, never changed. */
  readonly spiffeId: string;
  /** Attributes without the leading `#`, given by administrators. */
  readonly roleAttributes: readonly string[];
  /** Attributes that follow from its login's claims or from its SPIFFE ID; replaced at each login. */
  readonly derivedAttributes: readonly string[];
  readonly disabled: boolean;
  /** What it may do at the API; null: nothing. */
  readonly adminRole: AdminRole | null;
  readonly origin: IdentityOrigin;
  /** `issuer|subject` of a login's identity. */
  readonly externalId: string | null;
  /** `host:port` at which nodes reach it, for a relay. */
  readonly address: string | null;
  readonly tags: Tags;
}

/** A service of the network. */
export interface ServiceSpec {
  /** Ids of its configs, at most one of each type. */
  readonly configs: readonly string[];
  /** False: clients that cannot hold an end-to-end session may reach it too. */
  readonly encryptionRequired: boolean;
  readonly roleAttributes: readonly string[];
  /** Seconds after which a UDP flow that carries nothing ends; absent in services of older controllers. */
  readonly idleTimeout?: number;
  /** The last 16 bits of its virtual addresses, given at its creation for life; absent as `idleTimeout` is. */
  readonly index?: number;
  readonly tags: Tags;
}

/** How a service appears to agents (`intercept.v1`) or is reached by connectors (`host.v1`), in OpenZiti's shapes. */
export interface ConfigSpec {
  readonly type: "intercept.v1" | "host.v1";
  readonly data: Readonly<Record<string, unknown>>;
  readonly tags: Tags;
}

/** Grants a right; see `ServicePolicy`. */
export interface ServicePolicySpec {
  readonly type: PolicyType;
  readonly semantic: Semantic;
  readonly identityRoles: readonly string[];
  readonly serviceRoles: readonly string[];
  readonly tags: Tags;
}

/** One version of the network's egress policy; at most one is active. */
export interface EgressPolicySpec {
  /** The version as its author calls it, such as `1.0`. */
  readonly version: string;
  readonly description: string;
  /** The document in the shape of egress policy files, already validated. */
  readonly document: Readonly<Record<string, unknown>>;
  readonly active: boolean;
}

/** A foreign trust domain whose SVIDs are admitted; the resource's name is the trust domain's. */
export interface TrustDomainSpec {
  /** Its CA certificates, PEM. */
  readonly roots: readonly string[];
  /** Attributes by SPIFFE ID path: `*` stands for one segment, a final `**` for any rest. No rule matches: not admitted. */
  readonly rules: readonly { readonly path: string; readonly roleAttributes: readonly string[] }[];
  readonly disabled: boolean;
}

/** Turns a claim of a login into attributes or a role. */
export interface ClaimRule {
  /** Path of the claim, such as `groups` or `realm_access.roles`. */
  readonly claim: string;
  /** The value that matches (of a list: one of its entries); absent: every value. */
  readonly value?: string;
  /** Attributes given on a match; `{value}` stands for the claim's value. */
  readonly roleAttributes: readonly string[];
  readonly adminRole?: AdminRole;
}

/** An OpenID provider whose users may log in. */
export interface AuthProviderSpec {
  /** Issuer URL, exactly as in `iss`. */
  readonly issuer: string;
  /** Public client id; also the expected `aud`. */
  readonly clientId: string;
  readonly scopes: readonly string[];
  /** Claim that names the user; its value, brought into form, becomes the identity's name. */
  readonly nameClaim: string;
  readonly rules: readonly ClaimRule[];
  /** Only those matched by at least one rule may log in. */
  readonly requireMatch: boolean;
  readonly disabled: boolean;
}

/** An API token; its secret is kept only as a hash. */
export interface ApiTokenSpec {
  readonly role: AdminRole;
  /** SHA-256 of the secret, hexadecimal. */
  readonly secretHash: string;
  /** Milliseconds since the epoch; null: never. */
  readonly expiresAt: number | null;
  /** Resources it is confined to; empty: all that its role may touch. */
  readonly scopes: readonly string[];
  /** Works once, until the first admin identity or token is made by it. */
  readonly bootstrap: boolean;
}

/** The content of each kind of resource. */
export interface ResourceSpecs {
  readonly "identity": IdentitySpec;
  readonly "service": ServiceSpec;
  readonly "config": ConfigSpec;
  readonly "service-policy": ServicePolicySpec;
  readonly "egress-policy": EgressPolicySpec;
  readonly "trust-domain": TrustDomainSpec;
  readonly "auth-provider": AuthProviderSpec;
  readonly "api-token": ApiTokenSpec;
}

/** A stored resource. */
export interface Resource<K extends ResourceKind = ResourceKind> {
  readonly kind: K;
  /** A UUID. */
  readonly id: string;
  /** Unique among its kind; an identity's is unique among its type (its SPIFFE ID is unique). */
  readonly name: string;
  readonly spec: ResourceSpecs[K];
  /** The network's revision at which it last changed: its ETag. */
  readonly revision: number;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** Milliseconds since the epoch. */
  readonly updatedAt: number;
}

/** A resource as it is now, or that it is gone: what followers apply. */
export type ResourceChange = {
  readonly [K in ResourceKind]:
    | { readonly kind: K; readonly id: string; readonly resource: Resource<K> }
    | { readonly kind: K; readonly id: string; readonly resource: null };
}[ResourceKind];
