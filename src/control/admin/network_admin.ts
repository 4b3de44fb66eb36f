/** The network's administration: what the API's routes do, each write together with its audit fact. */

import type {
  ConnectorSummary,
  NewApiToken,
  NewResource,
  Outcome,
  PlainKind,
  RelaySummary,
  ResourceEdit,
  ResourceInputs,
  WriteContext,
} from "../../core/network/administration.ts";
import type { Principal } from "../../core/network/access.ts";
import type { AuditEntry, AuditQuery } from "../../core/network/audit_entry.ts";
import type { Resource, ResourceKind } from "../../core/network/resources.ts";
import type { ListQuery, Page } from "../../core/network/listing.ts";
import type { ServiceNetwork } from "../../core/service/catalogue.ts";
import type { AddressAllocation, Enrolment, SessionRecord, Store } from "../store.ts";
import { requireGrant } from "./access_rules.ts";
import { Addresses, type PoolSummary } from "./addresses.ts";
import { AdminContext, type NetworkAdminOptions } from "./admin_context.ts";
import { ApiTokens } from "./api_tokens.ts";
import { present } from "./decide.ts";
import { EgressPolicies, type PolicyRevision } from "./egress_policies.ts";
import { Presence } from "./presence.ts";
import { ResourceWriter, type Target } from "./resource_writer.ts";

/** Administers one network. Refusals are values; a rejection means the database is away. */
export class NetworkAdmin {
  readonly #context: AdminContext;
  readonly #store: Store;
  readonly #writer: ResourceWriter;
  readonly #policies: EgressPolicies;
  readonly #tokens: ApiTokens;
  readonly #addresses: Addresses;
  readonly #presence: Presence;

  constructor(options: NetworkAdminOptions) {
    this.#store = options.store;
    this.#context = new AdminContext(options);
    this.#writer = new ResourceWriter(this.#context);
    this.#policies = new EgressPolicies(this.#context);
    this.#tokens = new ApiTokens(this.#context);
    this.#addresses = new Addresses(this.#context);
    this.#presence = new Presence(this.#context);
  }

  /** How services appear on machines. */
  get services(): ServiceNetwork {
    return this.#context.options.services;
  }

  list<K extends ResourceKind>(kind: K, query: ListQuery): Promise<Page<Resource<K>>> {
    return this.#store.list(kind, query);
  }

  get<K extends ResourceKind>(kind: K, id: string): Promise<Resource<K> | undefined> {
    return this.#store.get(kind, id);
  }

  create<K extends PlainKind>(
    kind: K,
    input: NewResource<K>,
    context: WriteContext,
  ): Promise<Outcome<Resource<K>>> {
    return this.#writer.create(kind, input, context);
  }

  update<K extends PlainKind>(
    target: Target<K>,
    edit: ResourceEdit<K>,
    context: WriteContext,
  ): Promise<Outcome<Resource<K>>> {
    return this.#writer.update(target, edit, context);
  }

  remove<K extends ResourceKind>(target: Target<K>, context: WriteContext): Promise<Outcome<Resource<K>>> {
    return this.#writer.remove(target, context);
  }

  createToken(
    input: { readonly name: string; readonly spec: ResourceInputs["api-token"] },
    context: WriteContext,
  ): Promise<Outcome<NewApiToken>> {
    return this.#tokens.create(input, context);
  }

  /** Makes the network's first token; see `ApiTokens.ensureBootstrap`. */
  ensureBootstrap(options?: { readonly renew?: boolean }): Promise<string | undefined> {
    return this.#tokens.ensureBootstrap(options);
  }

  createPolicy(
    input: NewResource<"egress-policy">,
    context: WriteContext,
  ): Promise<Outcome<Resource<"egress-policy">>> {
    return this.#policies.create(input, context);
  }

  revisePolicy(
    id: string,
    input: PolicyRevision,
    context: WriteContext,
  ): Promise<Outcome<Resource<"egress-policy">>> {
    return this.#policies.revise(id, input, context);
  }

  activatePolicy(
    id: string,
    active: boolean,
    context: WriteContext,
  ): Promise<Outcome<Resource<"egress-policy">>> {
    return this.#policies.activate(id, active, context);
  }

  resetIdentity(id: string, context: WriteContext): Promise<Outcome<Resource<"identity">>> {
    return this.#writer.reset(id, context);
  }

  /** A one-time token by which the identity's node gets its certificate. */
  async createEnrolment(
    identityId: string,
    { ttlMs }: { readonly ttlMs?: number },
    { by }: WriteContext,
  ): Promise<Outcome<{ readonly token: string; readonly enrolment: Enrolment }>> {
    const checked = await this.#context.change(by, async (tx) => {
      const identity = present(await tx.get("identity", identityId));
      // Whoever enrols an identity can act as it.
      requireGrant("identity", by, [identity.spec]);
      return identity;
    });
    if (!checked.ok) return checked;
    const options = { by: by.who, ...(ttlMs === undefined ? {} : { ttlMs }) };
    return await this.#context.options.createEnrolmentToken(identityId, options);
  }

  enrolments(identityId: string): Promise<readonly Enrolment[]> {
    return this.#store.enrolments(identityId);
  }

  removeEnrolments(identityId: string, { by }: WriteContext): Promise<Outcome<number>> {
    return this.#context.change(by, async (tx, note) => {
      const identity = present(await tx.get("identity", identityId));
      requireGrant("identity", by, [identity.spec]);
      const removed = await tx.removeEnrolments(identityId);
      if (removed > 0) await note({ action: "remove enrolments", after: identity, detail: { removed } });
      return removed;
    });
  }

  relays(): Promise<readonly RelaySummary[]> {
    return this.#presence.relays();
  }

  connectors(query: ListQuery): Promise<Page<ConnectorSummary>> {
    return this.#presence.connectors(query);
  }

  sessions(query: Parameters<Store["sessions"]>[0]): Promise<Page<SessionRecord>> {
    return this.#store.sessions(query);
  }

  endSession(id: string, context: WriteContext): Promise<Outcome<SessionRecord>> {
    return this.#presence.endSession(id, context);
  }

  allocate(
    clientId: string,
    metadata: Readonly<Record<string, unknown>>,
    context: WriteContext,
  ): Promise<Outcome<{ readonly allocation: AddressAllocation; readonly isNew: boolean }>> {
    return this.#addresses.allocate(clientId, metadata, context);
  }

  allocation(clientId: string): Promise<AddressAllocation | undefined> {
    return this.#store.addressOf(clientId);
  }

  allocations(query: Parameters<Store["addresses"]>[0]): Promise<Page<AddressAllocation>> {
    return this.#store.addresses(query);
  }

  refreshAllocation(clientId: string): Promise<Outcome<AddressAllocation>> {
    return this.#addresses.refresh(clientId);
  }

  releaseAllocation(clientId: string, context: WriteContext): Promise<Outcome<AddressAllocation>> {
    return this.#addresses.release(clientId, context);
  }

  poolStats(): Promise<PoolSummary> {
    return this.#addresses.stats();
  }

  audit(query: AuditQuery): Promise<readonly AuditEntry[]> {
    return this.#store.queryAudit(query);
  }

  /** What anybody who follows the network may know of it. */
  async network() {
    const { trustDomain, roots } = this.#context.options;
    return { trustDomain, revision: await this.#store.revision(), roots: roots() };
  }

  /** Notes that an authenticated caller was refused for its role or scope. */
  noteDenied(
    by: Principal,
    { target, reason }: { readonly target: string; readonly reason: string },
  ): Promise<void> {
    return this.#context.note(by, { action: "denied", target, outcome: "denied", detail: { reason } });
  }
}
