/**
 * Moves a network's state from one revision to the next. States never change: what a change does not touch is shared
 * with the state before, so that what was derived from it can be kept.
 */

import type { NetworkChange } from "./changes.ts";
import type { NetworkState } from "./state.ts";

/** A network in which nothing and nobody exists. */
export function emptyState(trustDomain: string): NetworkState {
  return {
    trustDomain,
    revision: 0,
    identities: new Map(),
    services: new Map(),
    servicePolicies: new Map(),
    trustDomains: new Map(),
    egress: null,
    revoked: new Set(),
    roots: [],
    pools: { ipv4: null, ipv6: null },
  };
}

/** The state after `changes`, in order. */
export function applyChanges(
  state: NetworkState,
  { revision, changes }: { readonly revision: number; readonly changes: readonly NetworkChange[] },
): NetworkState {
  const next: Draft = { ...state, revision };
  for (const change of changes) applyChange(next, { change, before: state });
  return next;
}

type Draft = { -readonly [K in keyof NetworkState]: NetworkState[K] };

function applyChange(
  draft: Draft,
  { change, before }: { readonly change: NetworkChange; readonly before: NetworkState },
): void {
  switch (change.kind) {
    case "identity":
      draft.identities = withEntry(draft.identities, { ...change, before: before.identities });
      break;
    case "service":
      draft.services = withEntry(draft.services, { ...change, before: before.services });
      break;
    case "service-policy":
      draft.servicePolicies = withEntry(draft.servicePolicies, { ...change, before: before.servicePolicies });
      break;
    case "trust-domain":
      draft.trustDomains = withEntry(draft.trustDomains, { ...change, before: before.trustDomains });
      break;
    case "egress":
      draft.egress = change.document;
      break;
    case "revoked":
      draft.revoked = new Set(change.serials);
      break;
    case "roots":
      draft.roots = change.roots;
      break;
    case "pools":
      draft.pools = change.pools;
      break;
  }
}

/** Copies the map before its first change; later changes of one round go into that copy. */
function withEntry<V>(
  map: ReadonlyMap<string, V>,
  { id, value, before }: {
    readonly id: string;
    readonly value: V | null;
    readonly before: ReadonlyMap<string, V>;
  },
): ReadonlyMap<string, V> {
  if (value === null && !map.has(id)) return map;
  const copy = map === before ? new Map(map) : map as Map<string, V>;
  if (value === null) copy.delete(id);
  else copy.set(id, value);
  return copy;
}
