/**
 * What a network's state says about who may reach what, as the policy document that relays and views are compiled
 * from. Lists are shared between states whose resources are the same, so that what was compiled can be reused.
 */

import type { PolicyDocument, PolicyIdentity, PolicyService, ServicePolicy } from "../policy/document.ts";
import { type Host, readHost } from "../service/host.ts";
import { type Intercept, readIntercept } from "../service/intercept.ts";
import type { ServicePolicySpec, TrustDomainSpec } from "./resources.ts";
import type { NamedSpec, NetworkService, NetworkState } from "./state.ts";
import { splitSpiffeId, workloadAttributes } from "./workload_rules.ts";

/**
 * The policy document of a state. Disabled identities are not in it: compile it with `declaredOnly`, so that who is
 * not in it has no rights.
 */
export function toPolicyDocument(state: NetworkState): PolicyDocument {
  return {
    identities: remember(
      remember(IDENTITIES, state.identities, () => new WeakMap<object, readonly PolicyIdentity[]>()),
      state.trustDomains,
      () => toIdentities(state),
    ),
    services: remember(SERVICES, state.services, toServices),
    servicePolicies: remember(POLICIES, state.servicePolicies, toPolicies),
  };
}

const IDENTITIES = new WeakMap<object, WeakMap<object, readonly PolicyIdentity[]>>();
const SERVICES = new WeakMap<NetworkState["services"], readonly PolicyService[]>();
const SERVICE = new WeakMap<NamedSpec<NetworkService>, PolicyService>();
const INTERCEPTS = new WeakMap<object, { readonly value: Intercept | undefined }>();
const HOSTS = new WeakMap<object, { readonly value: Host | undefined }>();
const POLICIES = new WeakMap<NetworkState["servicePolicies"], readonly ServicePolicy[]>();

function remember<K extends object, V>(memory: WeakMap<K, V>, key: K, make: (key: K) => V): V {
  let value = memory.get(key);
  if (value === undefined) {
    value = make(key);
    memory.set(key, value);
  }
  return value;
}

function toIdentities({ identities, trustDomains }: NetworkState): PolicyIdentity[] {
  const domains = new Map([...trustDomains.values()].map(({ name, spec }) => [name, spec]));
  const list: PolicyIdentity[] = [];
  for (const { name, spec } of identities.values()) {
    if (spec.disabled) continue;
    const { spiffeId: id, roleAttributes } = spec;
    if (spec.type === "workload") {
      const derived = rulesFor(id, domains);
      if (derived === undefined) continue;
      // A workload's path may look like `agent/alice`: its name must never stand for one of the network's own.
      list.push({ id, name: `workload/${name}`, roleAttributes: [...roleAttributes, ...derived] });
    } else if (spec.derivedAttributes.length === 0) list.push({ id, roleAttributes });
    else list.push({ id, roleAttributes: [...roleAttributes, ...spec.derivedAttributes] });
  }
  return list;
}

/** By its domain's rules as they are now: with its domain or its rule a workload loses what they gave it. */
function rulesFor(id: string, domains: ReadonlyMap<string, TrustDomainSpec>): readonly string[] | undefined {
  const parts = splitSpiffeId(id);
  const domain = parts && domains.get(parts.domain);
  return domain && workloadAttributes(domain, parts.path);
}

function toServices(services: ReadonlyMap<string, NamedSpec<NetworkService>>): PolicyService[] {
  return [...services.values()].map((service) => remember(SERVICE, service, toService));
}

function toService({ name, spec }: NamedSpec<NetworkService>): PolicyService {
  const { roleAttributes, encryptionRequired, index, idleTimeout, configs } = spec;
  const intercept = read(configs["intercept.v1"], { memory: INTERCEPTS, by: readIntercept });
  const host = read(configs["host.v1"], { memory: HOSTS, by: readHost });
  return {
    name,
    roleAttributes,
    endToEnd: encryptionRequired ? "required" : "optional",
    ...(index !== undefined && { index }),
    ...(idleTimeout !== undefined && { idleTimeout }),
    ...(intercept !== undefined && { intercept }),
    ...(host !== undefined && { host }),
  };
}

/** A config that stays as it is gives the same object, so that views need not compare what is in it. */
function read<V extends object>(
  data: Readonly<Record<string, unknown>> | undefined,
  { memory, by }: {
    readonly memory: WeakMap<object, { readonly value: V | undefined }>;
    readonly by: (data: unknown) => V | undefined;
  },
): V | undefined {
  return data && remember(memory, data, () => ({ value: by(data) })).value;
}

function toPolicies(policies: ReadonlyMap<string, NamedSpec<ServicePolicySpec>>): ServicePolicy[] {
  return [...policies.values()].map(({ name, spec: { type, semantic, identityRoles, serviceRoles } }) => ({
    name,
    type,
    semantic,
    identityRoles,
    serviceRoles,
  }));
}
