/** What the API's routes ask of the network's administration. */

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
} from "../core/network/administration.ts";
import type { ListQuery, Page } from "../core/network/listing.ts";
import type { Principal } from "../core/network/access.ts";
import type { AuditEntry, AuditQuery } from "../core/network/audit_entry.ts";
import type { ServiceNetwork } from "../core/service/catalogue.ts";
import type { Resource, ResourceKind } from "../core/network/resources.ts";

/** A one-time enrolment. */
export interface EnrolmentSummary {
  readonly id: string;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly usedAt: number | null;
}

/** A node's or user's presence at a relay. */
export interface SessionSummary {
  readonly id: string;
  readonly relay: string;
  readonly identity: string;
  readonly kind: string;
  readonly remote: string;
  readonly services: readonly string[];
  readonly openedAt: number;
  readonly lastSeenAt: number;
  readonly closedAt: number | null;
}

/** The tunnel addresses of one client. */
export interface AllocationSummary {
  readonly clientId: string;
  readonly virtualIp: string | null;
  readonly virtualIp6: string | null;
  readonly allocatedAt: number;
  readonly lastSeenAt: number;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** How the address pools are used. */
export interface PoolSummary {
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly allocated: number;
  /** Addresses the smaller pool can give in all. */
  readonly capacity: number;
  readonly oldestSeenAt: number | null;
}

/** What anybody who follows the network may know of it. */
export interface NetworkSummary {
  readonly trustDomain: string;
  readonly revision: number;
  /** CA certificates, PEM, the issuing one first. */
  readonly roots: readonly string[];
}

/** A further version of an egress policy. */
export interface PolicyRevision extends Omit<ResourceInputs["egress-policy"], "version"> {
  /** Absent: the next whole number. */
  readonly version?: string;
  /** If given, the name it has already. */
  readonly name?: string;
}

/** The network's administration. Refusals are values; a rejection means the database is away. */
export interface AdminPort {
  /** How services appear on machines. */
  readonly services: ServiceNetwork;
  list<K extends ResourceKind>(kind: K, query: ListQuery): Promise<Page<Resource<K>>>;
  get<K extends ResourceKind>(kind: K, id: string): Promise<Resource<K> | undefined>;
  create<K extends PlainKind>(
    kind: K,
    input: NewResource<K>,
    context: WriteContext,
  ): Promise<Outcome<Resource<K>>>;
  update<K extends PlainKind>(
    target: { readonly kind: K; readonly id: string },
    edit: ResourceEdit<K>,
    context: WriteContext,
  ): Promise<Outcome<Resource<K>>>;
  remove<K extends ResourceKind>(
    target: { readonly kind: K; readonly id: string },
    context: WriteContext,
  ): Promise<Outcome<Resource<K>>>;
  createToken(
    input: { readonly name: string; readonly spec: ResourceInputs["api-token"] },
    context: WriteContext,
  ): Promise<Outcome<NewApiToken>>;
  createPolicy(
    input: NewResource<"egress-policy">,
    context: WriteContext,
  ): Promise<Outcome<Resource<"egress-policy">>>;
  /** Makes a new version beside the one it follows. */
  revisePolicy(
    id: string,
    input: PolicyRevision,
    context: WriteContext,
  ): Promise<Outcome<Resource<"egress-policy">>>;
  activatePolicy(
    id: string,
    active: boolean,
    context: WriteContext,
  ): Promise<Outcome<Resource<"egress-policy">>>;
  /** Ends its certificates, enrolments and addresses, so that it must enrol again. */
  resetIdentity(id: string, context: WriteContext): Promise<Outcome<Resource<"identity">>>;
  createEnrolment(
    identityId: string,
    options: { readonly ttlMs?: number },
    context: WriteContext,
  ): Promise<Outcome<{ readonly token: string; readonly enrolment: EnrolmentSummary }>>;
  enrolments(identityId: string): Promise<readonly EnrolmentSummary[]>;
  removeEnrolments(identityId: string, context: WriteContext): Promise<Outcome<number>>;
  relays(): Promise<readonly RelaySummary[]>;
  connectors(query: ListQuery): Promise<Page<ConnectorSummary>>;
  sessions(
    query: {
      readonly limit: number;
      readonly cursor?: string;
      readonly identity?: string;
      readonly relay?: string;
      readonly open?: boolean;
    },
  ): Promise<Page<SessionSummary>>;
  endSession(id: string, context: WriteContext): Promise<Outcome<SessionSummary>>;
  allocate(
    clientId: string,
    metadata: Readonly<Record<string, unknown>>,
    context: WriteContext,
  ): Promise<Outcome<{ readonly allocation: AllocationSummary; readonly isNew: boolean }>>;
  allocation(clientId: string): Promise<AllocationSummary | undefined>;
  allocations(
    query: { readonly limit: number; readonly cursor?: string },
  ): Promise<Page<AllocationSummary>>;
  refreshAllocation(clientId: string): Promise<Outcome<AllocationSummary>>;
  releaseAllocation(clientId: string, context: WriteContext): Promise<Outcome<AllocationSummary>>;
  poolStats(): Promise<PoolSummary>;
  audit(query: AuditQuery): Promise<readonly AuditEntry[]>;
  network(): Promise<NetworkSummary>;
  /** Notes in the audit log that an authenticated caller was refused for its role or scope. */
  noteDenied(by: Principal, attempt: { readonly target: string; readonly reason: string }): Promise<void>;
}
