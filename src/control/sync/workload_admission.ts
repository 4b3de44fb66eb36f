/**
 * Lets workloads of foreign trust domains in: a rule of their domain must match, and then they are an identity like any.
 * What they get by the rules is enforced by everybody who knows these; here it is written down, for people to see.
 */

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

/** Workloads written in one transaction: between two of them others write. */
const BATCH = 50;

/** Admits workloads. */
export class WorkloadAdmission {
  readonly #options: WorkloadAdmissionOptions;
  /** The trust domains by whose rules all known workloads were last looked at. */
  #seen: NetworkState["trustDomains"] | undefined;
  #noting: Promise<void> = Promise.resolve();

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
      if (isSame(known.spec.derivedAttributes, attributes)) return true;
    }
    const isWritten = await this.#write(spiffeId, { path: parts.path, attributes });
    if (isWritten) await refresh();
    return isWritten;
  }

  /** Trust domains may have changed: writes down what their rules give to the workloads that are known. */
  async noteRules(): Promise<void> {
    const { trustDomains } = this.#options.state();
    if (trustDomains === this.#seen) return await this.#noting;
    this.#seen = trustDomains;
    const before = this.#noting;
    const noting = (async () => {
      await before.catch(() => "said to whoever asked for it");
      await this.#noteAll();
    })();
    this.#noting = noting;
    try {
      await noting;
    } catch (error) {
      // The next call tries again.
      this.#seen = undefined;
      throw error;
    }
  }

  async #noteAll(): Promise<void> {
    const { store, state, source, now } = this.#options;
    const rules = rulesOf(state());
    const others = [...state().identities.values()].filter(({ spec }) =>
      spec.type === "workload" && !isSame(spec.derivedAttributes, attributesBy(rules, spec.spiffeId))
    );
    for (let start = 0; start < others.length; start += BATCH) {
      await store.transaction(async (tx) => {
        for (const { spec: { spiffeId } } of others.slice(start, start + BATCH)) {
          const known = await tx.find("identity", spiffeId);
          // Another controller may know better what the rules say now.
          const domain = await tx.find("trust-domain", splitSpiffeId(spiffeId)?.domain ?? "");
          const after = attributesBy(new Map(domain && [[domain.name, domain.spec]]), spiffeId);
          if (known === undefined || isSame(known.spec.derivedAttributes, after)) continue;
          await tx.audit({
            time: now(),
            event: "admin",
            who: source,
            target: `identity/${known.name}`,
            outcome: "ok",
            detail: { action: "attributes", id: spiffeId, before: known.spec.derivedAttributes, after },
            source,
          });
          await tx.update("identity", known.id, { spec: { ...known.spec, derivedAttributes: after } });
        }
      });
    }
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

type Rules = ReadonlyMap<string, Parameters<typeof workloadAttributes>[0]>;

/** Rules by trust domain. */
function rulesOf({ trustDomains }: NetworkState): Rules {
  return new Map([...trustDomains.values()].map(({ name, spec }) => [name, spec]));
}

/** What a workload has by the rules: nothing where none matches. */
function attributesBy(rules: Rules, spiffeId: string): readonly string[] {
  const parts = splitSpiffeId(spiffeId);
  const spec = parts && rules.get(parts.domain);
  return (spec && workloadAttributes(spec, parts.path)) ?? [];
}

function isSame(first: readonly string[], second: readonly string[]): boolean {
  return first.join() === second.join();
}
