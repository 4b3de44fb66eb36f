/** The rules of one identity, compiled: judges the first packet of each flow, first match wins. */

import { type IpPrefix, type IpRange, prefixRange, rangeToPrefixes } from "../../base/ip.ts";
import type { EgressAction, EgressIdentity } from "./document.ts";
import { type Flow, FLOW_KIND, PROTOCOL, type Verdict } from "./flow.ts";
import type { FqdnTable } from "./fqdn_table.ts";
import type { IdentityMatcher } from "./identity_matcher.ts";
import type { NameMatcher } from "./name_matcher.ts";
import { type Destination, isRoutable, type PrefixSet } from "./prefix_set.ts";

/** Finds who has a tunnel address right now; the words are unsigned, as those of a packet view. */
export type PeerResolver = (
  version: 4 | 6,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
) => EgressIdentity | undefined;

/** What rules look at besides the flow. */
export interface Scene {
  readonly fqdn: FqdnTable;
  readonly peerAt: PeerResolver;
  /** Tells whether an address outside the pools is the relay's own machine. */
  readonly isOwnAddress: (address: Destination) => boolean;
  readonly now: number;
}

/** A rule of a document, made ready. */
export interface CompiledRule {
  readonly verdict: Verdict;
  /** One byte per protocol number, or null for all. */
  readonly protocols: Uint8Array | null;
  /** First and last of each range, or null for all. */
  readonly ports: Uint16Array | null;
  readonly target:
    | { readonly type: "prefixes"; readonly all: PrefixSet; readonly insidePools: PrefixSet }
    | { readonly type: "names"; readonly matcher: NameMatcher }
    | { readonly type: "identities"; readonly matcher: IdentityMatcher }
    | { readonly type: "any" };
  /** What an allow rule adds to the routes a client is told of. */
  readonly routes: readonly IpPrefix[];
  /** Patterns of an `fqdn` rule. */
  readonly names: readonly string[];
}

/** What surrounds the rules of one identity. */
export interface ClientRulesOptions {
  readonly pools: PrefixSet;
  readonly defaultAction: EgressAction;
  /** Name servers whose answers are believed, or null for any. */
  readonly resolvers: PrefixSet | null;
}

/** The rules of one identity; they never change. */
export class ClientRules {
  /** Patterns of all `fqdn` rules. */
  readonly names: readonly string[];
  /** Patterns of those that allow. */
  readonly allowedNames: readonly string[];
  readonly #rules: readonly CompiledRule[];
  readonly #options: ClientRulesOptions;

  constructor(rules: readonly CompiledRule[], options: ClientRulesOptions) {
    this.#rules = rules;
    this.#options = options;
    this.names = [...new Set(rules.flatMap((rule) => rule.names))];
    this.allowedNames = rules.filter(({ verdict }) => verdict.action === "allow").flatMap((rule) =>
      rule.names
    );
  }

  /** Decides on a flow; notes in it whether its destination lies in a pool, and the name that let it through. */
  judge(flow: Flow, scene: Scene): Verdict {
    flow.inPool = this.#options.pools.contains(flow);
    const sight = new Sight(flow, scene);
    flow.name = "";
    if (flow.kind === FLOW_KIND.STRAY_FRAGMENT) return STRAY_FRAGMENT;
    if (!isRoutable(flow) || scene.isOwnAddress(flow)) return NOT_ROUTABLE;
    const { protocol, port } = flow;
    const hasPort = protocol === PROTOCOL.TCP || protocol === PROTOCOL.UDP;
    for (const rule of this.#rules) {
      if (rule.protocols !== null && rule.protocols[protocol] !== 1) continue;
      // The identifier of an ICMP echo stands where ports do, but is none.
      if (rule.ports !== null && !(hasPort && containsPort(rule.ports, port))) continue;
      if (matchesTarget(rule, flow, sight)) return rule.verdict;
    }
    return flow.inPool ? NO_RULE_MATCHED.drop : NO_RULE_MATCHED[this.#options.defaultAction];
  }

  /** What allow rules let the client reach by address, for the routes it is told of; sorted and joined. */
  routes(): IpPrefix[] {
    return joinPrefixes(this.#rules.flatMap((rule) => rule.routes));
  }

  /** Tells whether `fqdn` rules can open an address: no peer's, and none that is not routable. */
  canOpen(address: Destination): boolean {
    return isRoutable(address) && !this.#options.pools.contains(address);
  }

  /** Tells whether answers of a name server are believed. */
  trustsResolver(server: Destination): boolean {
    return this.#options.resolvers?.contains(server) ?? true;
  }
}

const NO_RULE_MATCHED: Readonly<Record<EgressAction, Verdict>> = {
  allow: { action: "allow", rule: "", reason: "default_action" },
  drop: { action: "drop", rule: "", reason: "default_action" },
  reject: { action: "reject", rule: "", reason: "default_action" },
};
const NOT_ROUTABLE: Verdict = { action: "drop", rule: "", reason: "not_routable" };
const STRAY_FRAGMENT: Verdict = { action: "drop", rule: "", reason: "fragment_without_first" };

function containsPort(ports: Uint16Array, port: number): boolean {
  for (let i = 0; i < ports.length; i += 2) if (ports[i]! <= port && port <= ports[i + 1]!) return true;
  return false;
}

/** What is broad never opens a pool: only rules that name identities or addresses inside it do. */
function matchesTarget({ target, verdict }: CompiledRule, flow: Flow, sight: Sight): boolean {
  const opensPool = flow.inPool && verdict.action === "allow";
  switch (target.type) {
    case "prefixes":
      return (opensPool ? target.insidePools : target.all).contains(flow);
    case "names": {
      const name = opensPool ? undefined : sight.names().find((name) => target.matcher.matches(name));
      if (name === undefined) return false;
      flow.name = name;
      return true;
    }
    case "identities": {
      const peer = sight.peer();
      return peer !== undefined && target.matcher.matches(peer);
    }
    case "any":
      return !opensPool;
  }
}

/** What is known of a flow's destination, looked up once for all rules and only when one asks. */
class Sight {
  readonly #flow: Flow;
  readonly #scene: Scene;
  readonly #lastName: string;
  #names: readonly string[] | undefined;
  #peer: EgressIdentity | undefined;
  #peerIsKnown = false;

  constructor(flow: Flow, scene: Scene) {
    this.#flow = flow;
    this.#scene = scene;
    this.#lastName = flow.name;
  }

  /** Its names; a flow keeps the one that let it begin, and so goes on after the TTL of that answer. */
  names(): readonly string[] {
    if (this.#names === undefined) {
      const names = this.#scene.fqdn.namesOf(this.#flow, this.#scene.now);
      this.#names = this.#lastName === "" ? names : [this.#lastName, ...names];
    }
    return this.#names;
  }

  /** Whose address it is; undefined outside the pools. */
  peer(): EgressIdentity | undefined {
    if (!this.#peerIsKnown && this.#flow.inPool) {
      const { version, dst0, dst1, dst2, dst3 } = this.#flow;
      this.#peer = this.#scene.peerAt(version, dst0 >>> 0, dst1 >>> 0, dst2 >>> 0, dst3 >>> 0);
    }
    this.#peerIsKnown = true;
    return this.#peer;
  }
}

function joinPrefixes(prefixes: readonly IpPrefix[]): IpPrefix[] {
  const joined: IpPrefix[] = [];
  for (const version of [4, 6] as const) {
    const ranges = prefixes.filter((prefix) => prefix.version === version).map(prefixRange)
      .toSorted((a, b) => a.first < b.first ? -1 : a.first > b.first ? 1 : 0);
    let current: IpRange | undefined;
    for (const range of ranges) {
      if (current === undefined || range.first > current.last + 1n) {
        if (current !== undefined) joined.push(...rangeToPrefixes(current));
        current = range;
      } else if (range.last > current.last) current = { ...current, last: range.last };
    }
    if (current !== undefined) joined.push(...rangeToPrefixes(current));
  }
  return joined;
}
