/**
 * What a network's state says about who may reach what, as the policy document that relays and views are compiled
 * from. Lists are shared between states whose resources are the same, so that what was compiled can be reused.
 */

import type { PolicyDocument, PolicyIdentity, PolicyService, ServicePolicy } from "../policy/document.ts";
import type { NamedSpec, NetworkIdentity, NetworkService, NetworkState } from "./state.ts";
import type { ServicePolicySpec } from "./resources.ts";

/**
 * The policy document of a state. Disabled identities are not in it: compile it with `declaredOnly`, so that who is
 * not in it has no rights.
 */
export function toPolicyDocument(state: NetworkState): PolicyDocument {
  return {
    identities: remember(IDENTITIES, state.identities, toIdentities),
    services: remember(SERVICES, state.services, toServices),
    servicePolicies: remember(POLICIES, state.servicePolicies, toPolicies),
  };
}

const IDENTITIES = new WeakMap<object, readonly PolicyIdentity[]>();
const SERVICES = new WeakMap<object, readonly PolicyService[]>();
const POLICIES = new WeakMap<object, readonly ServicePolicy[]>();

function remember<K extends object, V>(memory: WeakMap<object, V>, key: K, make: (key: K) => V): V {
  let value = memory.get(key);
  if (value === undefined) {
    value = make(key);
    memory.set(key, value);
  }
  return value;
}

function toIdentities(identities: ReadonlyMap<string, NamedSpec<NetworkIdentity>>): PolicyIdentity[] {
  const list: PolicyIdentity[] = [];
  for (const { name, spec } of identities.values()) {
    if (spec.disabled) continue;
    const roleAttributes = spec.derivedAttributes.length === 0
      ? spec.roleAttributes
      : [...spec.roleAttributes, ...spec.derivedAttributes];
    const entry = { id: spec.spiffeId, roleAttributes };
    // A workload's path may look like `agent/alice`: its name must never stand for one of the network's own.
    list.push(spec.type === "workload" ? { ...entry, name: `workload/${name}` } : entry);
  }
  return list;
}

function toServices(services: ReadonlyMap<string, NamedSpec<NetworkService>>): PolicyService[] {
  return [...services.values()].map(({ name, spec }) => ({
    name,
    roleAttributes: spec.roleAttributes,
    endToEnd: spec.encryptionRequired ? "required" : "optional",
  }));
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
