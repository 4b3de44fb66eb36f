/**
 * The policy as operators write it: who exists with which attributes, which services there are, and the Dial
 * and Bind policies that join the two. Shapes follow OpenZiti's service policies. Plain data, already validated.
 */

import type { Host } from "../service/host.ts";
import type { Intercept } from "../service/intercept.ts";

/** Attributes given to one identity, or to every identity of one name. */
export interface PolicyIdentity {
  /**
   * `alice` (any agent, user or connector of that name), `agent/alice` (that one kind), or, when `id` is
   * given too, the name by which policies call that `id` and nothing else.
   */
  readonly name?: string;
  /** A full SPIFFE ID. At least one of `name` and `id` is there. */
  readonly id?: string;
  /** Attributes without the leading `#`. */
  readonly roleAttributes: readonly string[];
}

/** Whether a service may also be reached by clients that cannot hold an end-to-end session. */
export type EndToEnd = "required" | "optional";

/** One service of the network. */
export interface PolicyService {
  readonly name: string;
  /** Attributes without the leading `#`. */
  readonly roleAttributes: readonly string[];
  readonly endToEnd: EndToEnd;
  /** Its number within the network's pools; absent: one that follows from its name. */
  readonly index?: number;
  /** How it appears to agents; absent: under its own name, with every port. */
  readonly intercept?: Intercept;
  /** Where connectors that may host it carry its flows; absent: only where their own configs say so. */
  readonly host?: Host;
  /** Seconds after which a UDP flow that carries nothing ends; {@linkcode DEFAULT_IDLE_TIMEOUT} when absent. */
  readonly idleTimeout?: number;
}

/** Seconds after which a UDP flow that carries nothing ends, where nobody says otherwise. */
export const DEFAULT_IDLE_TIMEOUT = 120;

/** What a policy allows: reaching a service, or offering it. */
export type PolicyType = "Dial" | "Bind";

/**
 * How the `#attribute` roles of one list combine: `AnyOf` wants one of them, `AllOf` every one. `@name` is an
 * exception that matches by itself under both, as in OpenZiti; `#all` is an attribute that everything has.
 */
export type Semantic = "AnyOf" | "AllOf";

/** Grants one right to the identities its roles select, on the services its roles select. */
export interface ServicePolicy {
  readonly name: string;
  readonly type: PolicyType;
  /** `#attribute`, `@name`, `@kind/name`, `@spiffe://…` or `#all`. */
  readonly identityRoles: readonly string[];
  /** `#attribute`, `@name` or `#all`. */
  readonly serviceRoles: readonly string[];
  readonly semantic: Semantic;
}

/** Everything a relay enforces. The empty document denies everything. */
export interface PolicyDocument {
  readonly identities: readonly PolicyIdentity[];
  readonly services: readonly PolicyService[];
  readonly servicePolicies: readonly ServicePolicy[];
}
