/**
 * The egress policy as operators write it: for each client an ordered list of rules, the first that matches a
 * packet's flow decides. Plain data, already parsed and validated.
 */

import type { IpAddress, IpPrefix } from "../../base/ip.ts";

/** What happens to a packet: `drop` is silent, `reject` answers with ICMP "administratively prohibited". */
export type EgressAction = "allow" | "drop" | "reject";

/** Ports from `first` to `last`, both included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** What every rule has. */
interface RuleBase {
  /** Unique among the rules of its client. */
  readonly id: string;
  readonly action: EgressAction;
  /** IP protocol numbers, or null for all. */
  readonly protocols: readonly number[] | null;
  /** Destination ports of TCP and UDP, or null for all; a rule with ports matches no other protocol. */
  readonly ports: readonly PortRange[] | null;
  /** The operator's own notes; no decision depends on them. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Matches destination addresses. */
export interface CidrRule extends RuleBase {
  readonly type: "ip_cidr";
  readonly destinations: readonly IpPrefix[];
}

/**
 * Matches addresses that the client learned from DNS under one of these names: `example.com` or
 * `*.example.com`, which means any depth below but not `example.com` itself. Lower case, no final dot.
 */
export interface FqdnRule extends RuleBase {
  readonly type: "fqdn";
  readonly destinations: readonly string[];
}

/** Matches the tunnel addresses of identities: a SPIFFE ID, `agent/bob`, `bob`, `#attribute` or `#all`. */
export interface IdentityRule extends RuleBase {
  readonly type: "identity";
  readonly destinations: readonly string[];
}

/** Concerns flows to a connector; never matches a packet that leaves at the relay. */
export interface ConnectorRule extends RuleBase {
  readonly type: "connector";
  readonly connectorId: string;
  /** `host:port`. */
  readonly destinations: readonly string[];
}

/** Matches every destination. */
export interface DefaultRule extends RuleBase {
  readonly type: "default";
  readonly destinations: readonly [];
}

/** One rule. */
export type EgressRule = CidrRule | FqdnRule | IdentityRule | ConnectorRule | DefaultRule;

/** The rules of everybody whom `client` names. */
export interface EgressClientEntry {
  /** A SPIFFE ID, `agent/alice`, `alice` (any agent or user of that name), `#attribute` or `#all`. */
  readonly client: string;
  readonly rules: readonly EgressRule[];
}

/** Everything a relay enforces on tunnels. The empty document lets nobody have one. */
export interface EgressDocument {
  /** For logs; empty when the operator gave none. */
  readonly name: string;
  /** What becomes of a packet that no rule matches. */
  readonly defaultAction: EgressAction;
  /**
   * The name servers whose answers `fqdn` rules believe, or null for any that the rules let a client ask: a
   * client that may ask a server of its own choice can have any address called by any name.
   */
  readonly resolvers: readonly IpAddress[] | null;
  readonly clients: readonly EgressClientEntry[];
}

/** An identity as rules see it. */
export interface EgressIdentity {
  /** Its SPIFFE ID. */
  readonly uri: string;
  readonly kind: string;
  readonly name: string;
  /** Attributes without the leading `#`. */
  readonly attributes: ReadonlySet<string>;
}
