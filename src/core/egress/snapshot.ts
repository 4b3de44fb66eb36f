/** An egress document compiled; a snapshot never changes, a reload makes a new one. */

import { ipBits, type IpPrefix, ipWords } from "../../base/ip.ts";
import { ClientRules, type ClientRulesOptions, type CompiledRule } from "./client_rules.ts";
import type { EgressDocument, EgressIdentity, EgressRule, PortRange } from "./document.ts";
import { EVERYBODY, IdentityMatcher, type NameScope, wordsFor } from "./identity_matcher.ts";
import { NameMatcher } from "./name_matcher.ts";
import { isRoutable, liesWithin, PrefixSet } from "./prefix_set.ts";

/** How to compile. */
export interface EgressCompileOptions extends NameScope {
  /** Where the addresses of tunnel clients and of the gateway come from. */
  readonly pools: readonly IpPrefix[];
}

/** A rule that can never do what it says; allowed, but worth a line in the log. */
export interface EgressWarning {
  readonly client: string;
  readonly rule: string;
  readonly reason: "after_default" | "destination_not_routable";
}

/** Answers whose rules are which, for one revision of the policy. */
export interface EgressSnapshot {
  /** Rules that do nothing, for the log. */
  readonly warnings: readonly EgressWarning[];
  /** The rules of an identity; undefined when no entry names it: it gets no tunnel at all. */
  rulesFor(identity: EgressIdentity): ClientRules | undefined;
}

/** Compiles a document; it does not throw. */
export function compileEgress(document: EgressDocument, options: EgressCompileOptions): EgressSnapshot {
  const shared: ClientRulesOptions = {
    pools: new PrefixSet(options.pools),
    defaultAction: document.defaultAction,
    resolvers: document.resolvers === null ? null : new PrefixSet(
      document.resolvers.map(({ version, value }) => ({ version, first: value, length: ipBits(version) })),
    ),
  };
  const tables = new Tables();
  const exact = new Map<string, CompiledRule[]>();
  const byAttribute: { readonly attribute: string; readonly rules: CompiledRule[] }[] = [];
  for (const { client, rules } of document.clients) {
    const compiled = rules.flatMap((rule) => compileRule(rule, { ...options, tables }));
    if (client.startsWith("#") && client !== EVERYBODY) {
      byAttribute.push({ attribute: client.slice(1), rules: compiled });
    } else exact.set(client, [...exact.get(client) ?? [], ...compiled]);
  }
  return {
    warnings: findWarnings(document),
    rulesFor(identity) {
      if (identity.kind === "relay") return undefined;
      const words = wordsFor(identity, options);
      const named = words.filter((word) => word !== EVERYBODY);
      const isAnybody = words.includes(EVERYBODY);
      const entries = [
        ...named.map((word) => exact.get(word)),
        ...byAttribute.filter(({ attribute }) => identity.attributes.has(attribute)).map(({ rules }) =>
          rules
        ),
        isAnybody ? exact.get(EVERYBODY) : undefined,
      ].filter((rules) => rules !== undefined);
      return entries.length === 0 ? undefined : new ClientRules(entries.flat(), shared);
    },
  };
}

/** No rule where it can match nothing that leaves at the relay. */
function compileRule(
  rule: EgressRule,
  { pools, tables, ...scope }: EgressCompileOptions & { readonly tables: Tables },
): CompiledRule[] {
  const common = {
    verdict: { action: rule.action, rule: rule.id, reason: "rule" },
    protocols: rule.protocols && tables.protocols(rule.protocols),
    ports: rule.ports && tables.ports(rule.ports),
    names: [],
  } as const;
  const routes = (prefixes: readonly IpPrefix[]) => rule.action === "allow" ? prefixes : [];
  switch (rule.type) {
    case "ip_cidr":
      return [{
        ...common,
        target: {
          type: "prefixes",
          all: new PrefixSet(rule.destinations),
          insidePools: new PrefixSet(rule.destinations.filter((prefix) => liesWithin(prefix, pools))),
        },
        routes: routes(rule.destinations),
      }];
    case "fqdn":
      return [{
        ...common,
        target: { type: "names", matcher: new NameMatcher(rule.destinations) },
        routes: [],
        names: rule.destinations,
      }];
    case "identity":
      return [{
        ...common,
        target: { type: "identities", matcher: new IdentityMatcher(rule.destinations, scope) },
        routes: routes(pools),
      }];
    case "default":
      return [{ ...common, target: { type: "any" }, routes: routes(EVERYWHERE) }];
    case "connector":
      return [];
  }
}

const EVERYWHERE: readonly IpPrefix[] = [
  { version: 4, first: 0n, length: 0 },
  { version: 6, first: 0n, length: 0 },
];

/** Rules of equal protocols and ports share their tables: a list of many rules then stays in the processor's cache. */
class Tables {
  readonly #protocols = new Map<string, Uint8Array>();
  readonly #ports = new Map<string, Uint16Array>();

  protocols(protocols: readonly number[]): Uint8Array {
    const key = protocols.join();
    const known = this.#protocols.get(key);
    if (known !== undefined) return known;
    const table = new Uint8Array(256);
    for (const protocol of protocols) table[protocol] = 1;
    this.#protocols.set(key, table);
    return table;
  }

  ports(ports: readonly PortRange[]): Uint16Array {
    const bounds = ports.flatMap(({ first, last }) => [first, last]);
    const known = this.#ports.get(bounds.join());
    if (known !== undefined) return known;
    const table = Uint16Array.from(bounds);
    this.#ports.set(bounds.join(), table);
    return table;
  }
}

function findWarnings(document: EgressDocument): EgressWarning[] {
  const warnings: EgressWarning[] = [];
  for (const { client, rules } of document.clients) {
    const last = rules.findIndex(({ type, protocols, ports }) =>
      type === "default" && protocols === null && ports === null
    );
    rules.forEach((rule, index) => {
      if (last >= 0 && index > last && rule.type !== "connector") {
        warnings.push({ client, rule: rule.id, reason: "after_default" });
      } else if (
        rule.type === "ip_cidr" && rule.action === "allow" && rule.destinations.some(isNeverRoutable)
      ) {
        warnings.push({ client, rule: rule.id, reason: "destination_not_routable" });
      }
    });
  }
  return warnings;
}

/** Told by its first address: the ranges that are not routable are wider than what is written in rules. */
function isNeverRoutable({ version, first, length }: IpPrefix): boolean {
  const [dst0, dst1, dst2, dst3] = ipWords({ version, value: first });
  return length >= 8 &&
    !isRoutable({ version, dst0: dst0 | 0, dst1: dst1 | 0, dst2: dst2 | 0, dst3: dst3 | 0 });
}
