/** What the contract of stores needs: resources, facts, and a database that several controllers open. */

import type { AllocationOptions, Store, StoreTransaction } from "../../src/control/store.ts";
import type { AuditFact } from "../../src/core/network/audit_entry.ts";
import type {
  ConfigSpec,
  EgressPolicySpec,
  IdentitySpec,
  Resource,
  ServiceSpec,
} from "../../src/core/network/resources.ts";

/** One empty database. */
export interface StoreGround {
  /** Opens it, each time as another controller would. */
  open(): Promise<Store>;
  /** Runs a statement on it, as somebody with the database's password could. */
  execute(statement: string): Promise<void>;
}

/** One requirement that every store meets. */
export interface ContractCase {
  readonly name: string;
  run(ground: StoreGround): Promise<void>;
}

/** When the tests happen. */
export const NOW = 1_800_000_000_000;

/** An agent. */
export function agentSpec(name: string, change: Partial<IdentitySpec> = {}): IdentitySpec {
  return {
    type: "agent",
    spiffeId: `spiffe://example.internal/agent/${name}`,
    roleAttributes: [],
    derivedAttributes: [],
    disabled: false,
    adminRole: null,
    origin: "enrolment",
    externalId: null,
    address: null,
    tags: {},
    ...change,
  };
}

/** A service. */
export function serviceSpec(change: Partial<ServiceSpec> = {}): ServiceSpec {
  return { configs: [], encryptionRequired: true, roleAttributes: [], tags: {}, ...change };
}

/** A config. */
export function configSpec(change: Partial<ConfigSpec> = {}): ConfigSpec {
  return { type: "host.v1", data: {}, tags: {}, ...change };
}

/** An egress policy. */
export function egressSpec(
  document: Readonly<Record<string, unknown>>,
  change: Partial<EgressPolicySpec> = {},
): EgressPolicySpec {
  return { version: "1.0", description: "", document, active: false, ...change };
}

/** A fact for the audit log. */
export function fact(change: Partial<AuditFact> = {}): AuditFact {
  return {
    time: NOW,
    event: "connect",
    who: "spiffe://example.internal/agent/alice",
    target: "postgres",
    outcome: "open",
    detail: {},
    source: "relay-1",
    ...change,
  };
}

/** Where addresses come from in tests: room for five clients. */
export function pool(change: Partial<AllocationOptions> = {}): AllocationOptions {
  return { now: NOW, ipv4: "10.100.0.0/29", ipv6: null, reclaimBefore: 0, ...change };
}

/** Makes an agent in a transaction of its own. */
export function createAgent(
  store: Store,
  name: string,
  change: Partial<IdentitySpec> = {},
): Promise<Resource<"identity">> {
  return store.transaction((tx) => createAgentIn(tx, name, change));
}

/** Makes an agent. */
export async function createAgentIn(
  tx: StoreTransaction,
  name: string,
  change: Partial<IdentitySpec> = {},
): Promise<Resource<"identity">> {
  const created = await tx.create("identity", { name, spec: agentSpec(name, change) });
  if (!created.ok) throw new Error(`${name}: ${created.fault}`);
  return created.value;
}
