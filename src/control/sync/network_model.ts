/**
 * The controller's picture of its network: all that relays enforce, kept up with the database, and told as changes.
 */

import { applyChanges, emptyState } from "../../core/network/apply.ts";
import type { NetworkChange } from "../../core/network/changes.ts";
import type { Resource, ResourceChange, ResourceKind } from "../../core/network/resources.ts";
import type { NamedSpec, NetworkService, NetworkState } from "../../core/network/state.ts";

/** The kinds of resources relays need to hear of. */
export const RELAY_KINDS = [
  "identity",
  "service",
  "config",
  "service-policy",
  "egress-policy",
  "trust-domain",
] as const satisfies readonly ResourceKind[];

/** What the state holds besides resources. */
export interface NetworkSurroundings {
  readonly trustDomain: string;
  /** CA certificates, PEM, the issuing one first. */
  readonly roots: readonly string[];
  readonly pools: NetworkState["pools"];
  readonly revoked: readonly string[];
}

/** One network, moved on by its changes. */
export class NetworkModel {
  #state: NetworkState;
  readonly #configs = new Map<string, Resource<"config">>();
  readonly #services = new Map<string, Resource<"service">>();
  /** Services by the config they use. */
  readonly #users = new Map<string, Set<string>>();
  /** Id of the active egress policy. */
  #activeEgress: string | undefined;

  constructor(
    surroundings: NetworkSurroundings,
    content: { readonly revision: number; readonly resources: readonly Resource[] },
  ) {
    const { trustDomain, roots, pools, revoked } = surroundings;
    this.#state = { ...emptyState(trustDomain), roots, pools, revoked: new Set(revoked) };
    const changes = content.resources.map((resource) =>
      ({ kind: resource.kind, id: resource.id, resource }) as ResourceChange
    );
    this.apply({ revision: content.revision, changes });
  }

  /** The network now. */
  get state(): NetworkState {
    return this.#state;
  }

  /** Takes in what the database reports; returns what relays need to hear of it. */
  apply(
    { revision, changes }: { readonly revision: number; readonly changes: readonly ResourceChange[] },
  ): readonly NetworkChange[] {
    const told = new Map<string, NetworkChange>();
    const touchedServices = new Set<string>();
    for (const change of changes) {
      if (change.kind === "config") this.#takeConfig(change, touchedServices);
      else if (change.kind === "service") this.#takeService(change, touchedServices);
      else {
        const projected = this.#project(change);
        if (projected !== undefined) told.set(`${change.kind} ${keyOf(projected)}`, projected);
      }
    }
    for (const id of touchedServices) told.set(`service ${id}`, this.#serviceChange(id));
    return this.#tell(revision, [...told.values()]);
  }

  /** Takes in surroundings that differ from the known ones. */
  surround(surroundings: Partial<NetworkSurroundings>): readonly NetworkChange[] {
    const { roots, pools, revoked } = surroundings;
    const changes: NetworkChange[] = [];
    if (roots !== undefined && !isSame(roots, this.#state.roots)) changes.push({ kind: "roots", roots });
    if (pools !== undefined && !isSame(pools, this.#state.pools)) changes.push({ kind: "pools", pools });
    if (revoked !== undefined && !isSameSet(revoked, this.#state.revoked)) {
      changes.push({ kind: "revoked", serials: revoked });
    }
    return this.#tell(this.#state.revision, changes);
  }

  /** What a follower must hear that knows the network as it was before these changes. */
  current(changes: readonly ResourceChange[]): readonly NetworkChange[] {
    const { identities, servicePolicies, trustDomains, egress, roots, pools, revoked } = this.#state;
    const told = new Map<string, NetworkChange>();
    const service = (id: string) => told.set(`service ${id}`, this.#serviceChange(id));
    for (const { kind, id } of changes) {
      const key = `${kind} ${id}`;
      if (kind === "service") service(id);
      else if (kind === "config") this.#users.get(id)?.forEach(service);
      else if (kind === "identity") told.set(key, { kind, id, value: identities.get(id) ?? null });
      else if (kind === "service-policy") told.set(key, { kind, id, value: servicePolicies.get(id) ?? null });
      else if (kind === "trust-domain") told.set(key, { kind, id, value: trustDomains.get(id) ?? null });
    }
    return [
      ...told.values(),
      { kind: "egress", document: egress },
      { kind: "roots", roots },
      { kind: "pools", pools },
      { kind: "revoked", serials: [...revoked] },
    ];
  }

  #tell(revision: number, changes: readonly NetworkChange[]): readonly NetworkChange[] {
    this.#state = applyChanges(this.#state, { revision, changes });
    return changes;
  }

  #takeConfig(change: ResourceChange & { kind: "config" }, touched: Set<string>): void {
    if (change.resource === null) this.#configs.delete(change.id);
    else this.#configs.set(change.id, change.resource);
    for (const service of this.#users.get(change.id) ?? []) touched.add(service);
  }

  #takeService(change: ResourceChange & { kind: "service" }, touched: Set<string>): void {
    for (const config of this.#services.get(change.id)?.spec.configs ?? []) {
      this.#users.get(config)?.delete(change.id);
    }
    touched.add(change.id);
    if (change.resource === null) {
      this.#services.delete(change.id);
      return;
    }
    this.#services.set(change.id, change.resource);
    for (const config of change.resource.spec.configs) {
      const users = this.#users.get(config) ?? new Set();
      this.#users.set(config, users.add(change.id));
    }
  }

  #serviceChange(id: string): NetworkChange {
    const service = this.#services.get(id);
    if (service === undefined) return { kind: "service", id, value: null };
    const { encryptionRequired, roleAttributes, idleTimeout, index, configs } = service.spec;
    const byType: Record<string, Readonly<Record<string, unknown>>> = {};
    for (const config of configs) {
      const spec = this.#configs.get(config)?.spec;
      if (spec !== undefined) byType[spec.type] = spec.data;
    }
    const spec: NetworkService = {
      encryptionRequired,
      roleAttributes,
      ...(idleTimeout !== undefined && { idleTimeout }),
      ...(index !== undefined && { index }),
      configs: byType,
    };
    return { kind: "service", id, value: { name: service.name, spec } };
  }

  /** What relays hear of a resource: only what they enforce, never tags or who may log in. */
  #project(change: ResourceChange): NetworkChange | undefined {
    const { id } = change;
    switch (change.kind) {
      case "identity":
        return {
          kind: "identity",
          id,
          value: named(change.resource, (spec) => {
            const { type, spiffeId, roleAttributes, derivedAttributes, disabled, address } = spec;
            return { type, spiffeId, roleAttributes, derivedAttributes, disabled, address };
          }),
        };
      case "service-policy":
        return {
          kind: "service-policy",
          id,
          value: named(change.resource, (spec) => ({ ...spec, tags: {} })),
        };
      case "trust-domain":
        return {
          kind: "trust-domain",
          id,
          value: named(change.resource, ({ roots, rules, disabled }) => ({ roots, rules, disabled })),
        };
      case "egress-policy":
        return this.#egressChange(change);
      default:
        return undefined;
    }
  }

  #egressChange({ id, resource }: ResourceChange & { kind: "egress-policy" }): NetworkChange | undefined {
    if (resource?.spec.active) {
      this.#activeEgress = id;
      return { kind: "egress", document: resource.spec.document };
    }
    // One that was not active matters to nobody.
    if (this.#activeEgress !== id) return undefined;
    this.#activeEgress = undefined;
    return { kind: "egress", document: null };
  }
}

function named<S, T>(
  resource: { readonly name: string; readonly spec: S } | null,
  project: (spec: S) => T,
): NamedSpec<T> | null {
  return resource === null ? null : { name: resource.name, spec: project(resource.spec) };
}

function keyOf(change: NetworkChange): string {
  return "id" in change ? change.id : "";
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function isSameSet(list: readonly string[], set: ReadonlySet<string>): boolean {
  return list.length === set.size && list.every((entry) => set.has(entry));
}
