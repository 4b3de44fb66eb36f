/**
 * A policy document compiled for fast decisions. A snapshot never changes: a reload makes a new one.
 */

import type { Decision, DenyReason } from "./decision.ts";
import type { PolicyDocument, PolicyService, PolicyType, ServicePolicy } from "./document.ts";
import { type IdentityIndex, indexIdentities } from "./identity_index.ts";
import { assignIndexes } from "../service/virtual_address.ts";
import { ALL_ROLE, type Entity, firstCommon, type PolicySet, RoleMatcher } from "./role_matcher.ts";

/** Identities whose rights one snapshot remembers. */
const MAX_REMEMBERED = 16_384;

/** How to compile. */
export interface CompileOptions {
  /**
   * The network's own trust domain: with it, bare names, `kind/name` and `#all` select only identities of that
   * domain. Without it any SPIFFE ID of Ginnel's form counts as one of the network's.
   */
  readonly trustDomain?: string;
  /** Only identities that have an entry with their `id` hold rights: an unknown one, or one taken out, has none. */
  readonly declaredOnly?: boolean;
  /** The snapshot before: what the document has not changed since is not compiled again. */
  readonly previous?: PolicySnapshot;
}

/** A role that selects nothing declared; allowed, since the other half may be declared later. */
export interface PolicyWarning {
  readonly policy: string;
  readonly role: string;
  readonly reason: "undeclared_service" | "undeclared_identity" | "attribute_nobody_has";
}

/** The rights of one identity, resolved once for many questions. */
export interface Rights {
  /** The policies that select the identity; undefined for one that can hold no right. */
  readonly selectedBy: SelectedBy | undefined;
  /** May the identity reach the service? */
  mayDial(service: string): Decision;
  /** May the identity offer the service? */
  mayBind(service: string): Decision;
}

/** The Dial policies and the Bind policies that select something. Comparable within one `rules`. */
export interface SelectedBy {
  readonly dial: PolicySet;
  readonly bind: PolicySet;
}

/** Answers every rights question of one policy revision; default deny. */
export interface PolicySnapshot {
  /** The same object as long as services and policies are the same. */
  readonly rules: PolicyRules;
  /** Roles that select nothing declared, for the log. */
  readonly warnings: readonly PolicyWarning[];
  /** Names of all declared services, sorted. */
  readonly serviceNames: readonly string[];
  /** May this identity (a SPIFFE ID) reach the service? */
  mayDial(id: string, service: string): Decision;
  /** May this identity (a SPIFFE ID) offer the service? */
  mayBind(id: string, service: string): Decision;
  /** The rights of one identity (a SPIFFE ID). */
  rightsOf(id: string): Rights;
  /** Names of the services the identity may Dial or Bind, sorted: all that it may know of. */
  visibleServices(id: string): readonly string[];
  /** The attributes an identity (a SPIFFE ID) carries; undefined for one that can hold no right. */
  attributesOf(id: string): ReadonlySet<string> | undefined;
  /** The declared service, or undefined. */
  service(name: string): PolicyService | undefined;
}

/** Services and policies compiled, without anything about who exists. */
export class PolicyRules {
  readonly services: ReadonlyMap<string, PolicyService>;
  readonly dial: RightTable;
  readonly bind: RightTable;
  readonly #source: Pick<PolicyDocument, "services" | "servicePolicies">;
  #serviceNames: readonly string[] | undefined;
  #indexes: ReadonlyMap<string, number> | undefined;

  constructor(document: Pick<PolicyDocument, "services" | "servicePolicies">) {
    this.#source = document;
    this.services = new Map(document.services.map((service) => [service.name, service]));
    this.dial = new RightTable("Dial", document.servicePolicies, this.services);
    this.bind = new RightTable("Bind", document.servicePolicies, this.services);
  }

  /** Sorted. */
  get serviceNames(): readonly string[] {
    return this.#serviceNames ??= [...this.services.keys()].sort();
  }

  /** The number of each service within the network's pools. */
  get indexes(): ReadonlyMap<string, number> {
    return this.#indexes ??= assignIndexes([...this.services.values()]);
  }

  /** Whether these are the rules of a document, told by its lists being the very same. */
  areOf({ services, servicePolicies }: PolicyDocument): boolean {
    return this.#source.services === services && this.#source.servicePolicies === servicePolicies;
  }
}

/** Compiles a document; it does not throw, what selects nothing is listed in `warnings`. */
export function compilePolicy(document: PolicyDocument, options: CompileOptions = {}): PolicySnapshot {
  const identities = indexIdentities(document.identities, options);
  const { previous } = options;
  const rules = previous?.rules.areOf(document) ? previous.rules : new PolicyRules(document);
  const { services } = rules;
  let warnings: readonly PolicyWarning[] | undefined;
  const remembered = new Map<string, Rights>();
  const rightsOf = (id: string): Rights => {
    const known = remembered.get(id);
    if (known !== undefined) return known;
    const entity = identities.find(id);
    const rights = entity === undefined ? new NoRights(rules) : new ResolvedRights(entity, rules);
    // All of a network's identities fit; strangers' many names must not fill the memory.
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    remembered.set(id, rights);
    return rights;
  };
  return {
    rules,
    get warnings() {
      return warnings ??= findWarnings(document, identities);
    },
    get serviceNames() {
      return rules.serviceNames;
    },
    mayDial: (id, service) => rightsOf(id).mayDial(service),
    mayBind: (id, service) => rightsOf(id).mayBind(service),
    rightsOf,
    visibleServices(id) {
      const rights = rightsOf(id);
      return rules.serviceNames.filter((service) =>
        rights.mayDial(service).verdict === "allow" || rights.mayBind(service).verdict === "allow"
      );
    },
    attributesOf: (id) => {
      const entity = identities.find(id);
      return entity && new Set(entity.attributes.flat());
    },
    service: (name) => services.get(name),
  };
}

/** The rights of somebody whom policies may select. Most questions are about one of the two, so each is resolved when first asked. */
class ResolvedRights implements Rights {
  readonly #entity: Entity;
  readonly #rules: PolicyRules;
  #dial: PolicySet | undefined;
  #bind: PolicySet | undefined;

  constructor(entity: Entity, rules: PolicyRules) {
    this.#entity = entity;
    this.#rules = rules;
  }

  get selectedBy(): SelectedBy {
    return { dial: this.#dialling, bind: this.#binding };
  }

  mayDial(service: string): Decision {
    return this.#rules.dial.decide(this.#dialling, service);
  }

  mayBind(service: string): Decision {
    return this.#rules.bind.decide(this.#binding, service);
  }

  get #dialling(): PolicySet {
    return this.#dial ??= this.#rules.dial.identities.match(this.#entity);
  }

  get #binding(): PolicySet {
    return this.#bind ??= this.#rules.bind.identities.match(this.#entity);
  }
}

/** The rights of somebody who can hold none. */
class NoRights implements Rights {
  readonly selectedBy: undefined;
  readonly #rules: PolicyRules;

  constructor(rules: PolicyRules) {
    this.#rules = rules;
  }

  mayDial(service: string): Decision {
    return this.#rules.services.has(service) ? DENIALS.identity_without_rights : DENIALS.unknown_service;
  }

  mayBind(service: string): Decision {
    return this.mayDial(service);
  }
}

/** All policies of one type: the matcher of their identity roles, and for each service those that select it. */
class RightTable {
  /** How many policies there are: bits of a set of them. */
  readonly size: number;
  readonly identities: RoleMatcher;
  readonly #allows: readonly Decision[];
  readonly #services: ReadonlyMap<string, PolicyService>;
  readonly #matcher: RoleMatcher;
  /** By service; worked out when first asked for, since a relay needs few of many services. */
  readonly #selecting = new Map<string, PolicySet>();

  constructor(
    type: PolicyType,
    policies: readonly ServicePolicy[],
    services: ReadonlyMap<string, PolicyService>,
  ) {
    const ours = policies.filter((policy) => policy.type === type);
    this.size = ours.length;
    this.#allows = ours.map(({ name }) => ({ verdict: "allow", policy: name }));
    this.identities = new RoleMatcher(
      ours.map(({ identityRoles, semantic }) => ({ roles: identityRoles, semantic })),
    );
    this.#matcher = new RoleMatcher(
      ours.map(({ serviceRoles, semantic }) => ({ roles: serviceRoles, semantic })),
    );
    this.#services = services;
  }

  /** The policies that select a service; undefined when it is not declared. */
  selecting(service: string): PolicySet | undefined {
    const known = this.#selecting.get(service);
    if (known !== undefined) return known;
    const declared = this.#services.get(service);
    if (declared === undefined) return undefined;
    const { name, roleAttributes } = declared;
    const policies = this.#matcher.match({ names: [name], attributes: [roleAttributes], inAll: true });
    this.#selecting.set(service, policies);
    return policies;
  }

  /** Whether one of the policies that select an identity selects the service too. */
  decide(identityPolicies: PolicySet, service: string): Decision {
    const servicePolicies = this.selecting(service);
    if (servicePolicies === undefined) return DENIALS.unknown_service;
    return this.#allows[firstCommon(identityPolicies, servicePolicies)] ?? DENIALS.no_matching_policy;
  }
}

/** One object per reason: a refusal allocates nothing. */
const DENIALS: Readonly<Record<DenyReason, Decision>> = {
  unknown_service: { verdict: "deny", reason: "unknown_service" },
  no_matching_policy: { verdict: "deny", reason: "no_matching_policy" },
  identity_without_rights: { verdict: "deny", reason: "identity_without_rights" },
};

function findWarnings(document: PolicyDocument, identities: IdentityIndex): PolicyWarning[] {
  const identityAttributes = new Set(document.identities.flatMap((identity) => identity.roleAttributes));
  const serviceAttributes = new Set(document.services.flatMap((service) => service.roleAttributes));
  const serviceNames = new Set(document.services.map((service) => service.name));
  const warnings: PolicyWarning[] = [];
  for (const policy of document.servicePolicies) {
    const check = (
      role: string,
      attributes: ReadonlySet<string>,
      otherwise: PolicyWarning["reason"] | undefined,
    ) => {
      if (role === ALL_ROLE) return;
      const reason = role.startsWith("#")
        ? (attributes.has(role.slice(1)) ? undefined : "attribute_nobody_has")
        : otherwise;
      if (reason !== undefined) warnings.push({ policy: policy.name, role, reason });
    };
    for (const role of policy.identityRoles) {
      check(role, identityAttributes, identities.declares(role.slice(1)) ? undefined : "undeclared_identity");
    }
    for (const role of policy.serviceRoles) {
      check(role, serviceAttributes, serviceNames.has(role.slice(1)) ? undefined : "undeclared_service");
    }
  }
  return warnings;
}
