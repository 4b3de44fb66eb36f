/** What administrators hand in and what comes of it: the words that the API and the administration share. */

import type { Principal } from "./access.ts";
import type { Resource, ResourceKind, ResourceSpecs } from "./resources.ts";

/** One thing wrong with an input; `field` is a path such as `portRanges[0].low`. */
export interface FieldProblem {
  readonly field: string;
  readonly message: string;
}

/** Why a request by an administrator was refused. */
export type AdminFault =
  /** There is no such resource. */
  | { readonly fault: "missing" }
  /** The name is taken. */
  | { readonly fault: "exists" }
  /** It has changed since the revision the writer saw. */
  | { readonly fault: "changed" }
  /** Something of it is wrong. */
  | { readonly fault: "invalid"; readonly errors: readonly FieldProblem[] }
  /** It would break what depends on it, or does not fit its state. */
  | { readonly fault: "conflict"; readonly detail: string }
  /** The caller's role does not reach that far. */
  | { readonly fault: "forbidden"; readonly detail: string }
  /** No address is left. */
  | { readonly fault: "exhausted" };

/** A value, or why there is none. */
export type Outcome<T> = { readonly ok: true; readonly value: T } | ({ readonly ok: false } & AdminFault);

/** What an administrator says of a resource; the rest of its spec follows from it. */
export interface ResourceInputs {
  readonly "identity":
    & Pick<
      ResourceSpecs["identity"],
      "type" | "roleAttributes" | "disabled" | "adminRole" | "address" | "tags"
    >
    /** Only of a workload; others' follow from type and name. */
    & { readonly spiffeId?: string };
  readonly "service": Omit<ResourceSpecs["service"], "index">;
  readonly "config": ResourceSpecs["config"];
  readonly "service-policy": ResourceSpecs["service-policy"];
  readonly "egress-policy": Omit<ResourceSpecs["egress-policy"], "active">;
  readonly "trust-domain": ResourceSpecs["trust-domain"];
  readonly "auth-provider": ResourceSpecs["auth-provider"];
  readonly "api-token": Pick<ResourceSpecs["api-token"], "role" | "expiresAt" | "scopes">;
}

/** A new resource. */
export interface NewResource<K extends ResourceKind> {
  readonly name: string;
  readonly spec: ResourceInputs[K];
}

/** A change: what it does not name stays. */
export interface ResourceEdit<K extends ResourceKind> {
  readonly name?: string;
  readonly spec: Partial<ResourceInputs[K]>;
}

/** An API token at its creation: the only time its text exists. */
export interface NewApiToken {
  readonly resource: Resource<"api-token">;
  readonly token: string;
}

/** Kinds that are made, changed and removed alike. */
export type PlainKind = Exclude<ResourceKind, "egress-policy" | "api-token">;

/** By whom a write is made, and what it rests on. */
export interface WriteContext {
  readonly by: Principal;
  /** Only if the resource is still at this revision. */
  readonly ifRevision?: number;
}

/** A relay and what it last said of itself. */
export interface RelaySummary {
  /** Of its identity; null for one that is not among the identities any more. */
  readonly id: string | null;
  readonly name: string;
  readonly spiffeId: string;
  readonly address: string | null;
  readonly disabled: boolean;
  readonly revision: number | null;
  readonly version: string | null;
  readonly sessions: number;
  readonly lastSeenAt: number | null;
}

/** A connector, where it is connected and what it offers there. */
export interface ConnectorSummary {
  readonly id: string;
  readonly name: string;
  readonly spiffeId: string;
  readonly disabled: boolean;
  readonly relays: readonly string[];
  readonly services: readonly string[];
  readonly lastSeenAt: number | null;
}
