/** Lets workloads of foreign trust domains in: a rule of their domain must match, and then they are an identity like any. */

import { splitSpiffeId, workloadAttributes } from "../../core/network/workload_rules.ts";
import type { IdentitySpec } from "../../core/network/resources.ts";
import type { NetworkState } from "../../core/network/state.ts";
import type { Store } from "../store.ts";

/** What admission needs. */
export interface WorkloadAdmissionOptions {
  readonly store: Pick<Store, "transaction" | "find">;
  readonly state: () => NetworkState;
  /** Tells relays of what was written; resolves when they have been told. */
  readonly refresh: () => Promise<void>;
  /** Who writes, for the audit log: the controller's SPIFFE ID. */
  readonly source: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Admits workloads. */
export class WorkloadAdmission {
  readonly #options: WorkloadAdmissionOptions;

  constructor(options: WorkloadAdmissionOptions) {
    this.#options = options;
  }

  /** Whether this workload (a SPIFFE ID) may come in; notes it, with the attributes of the rules as they are now. */
  async admit(spiffeId: string): Promise<boolean> {
    const { state, store, refresh } = this.#options;
    const parts = splitSpiffeId(spiffeId);
    if (parts === undefined || parts.domain === state().trustDomain) return false;
    const domain = [...state().trustDomains.values()].find(({ name }) => name === parts.domain);
    const attributes = domain && workloadAttributes(domain.spec, parts.path);
    if (attributes === undefined) return false;
    const known = await store.find("identity", spiffeId);
    if (known !== undefined) {
      if (known.spec.disabled || known.spec.type !== "workload") return false;
      if (known.spec.derivedAttributes.join() === attributes.join()) return true;
    }
    const isWritten = await this.#write(spiffeId, { path: parts.path, attributes });
    if (isWritten) await refresh();
    return isWritten;
  }

  #write(
    spiffeId: string,
    { path, attributes }: { readonly path: string; readonly attributes: readonly string[] },
  ): Promise<boolean> {
    const { store, source, now } = this.#options;
    return store.transaction(async (tx) => {
      const known = await tx.find("identity", spiffeId);
      const fact = { time: now(), event: "admin", who: source, outcome: "ok", source } as const;
      if (known !== undefined) {
        if (known.spec.disabled) return false;
        const spec = { ...known.spec, derivedAttributes: attributes };
        const before = known.spec.derivedAttributes;
        await tx.audit({
          ...fact,
          target: `identity/${known.name}`,
          detail: { action: "attributes", id: spiffeId, before, after: attributes },
        });
        return (await tx.update("identity", known.id, { spec })).ok;
      }
      const spec: IdentitySpec = { ...NEW_WORKLOAD, spiffeId, derivedAttributes: attributes };
      // Two domains may have workloads of one path: the second goes by its whole ID.
      for (const name of [path.slice(1), spiffeId.slice("spiffe://".length)]) {
        if (!(await tx.create("identity", { name, spec })).ok) continue;
        await tx.audit({
          ...fact,
          target: `identity/${name}`,
          detail: { action: "create", id: spiffeId, after: attributes },
        });
        return true;
      }
      return false;
    });
  }
}

const NEW_WORKLOAD = {
  type: "workload",
  roleAttributes: [],
  disabled: false,
  adminRole: null,
  origin: "spiffe",
  externalId: null,
  address: null,
  tags: {},
} as const;
