/**
 * What the controller asks of a database: the port that `src/store` implements on SQLite and PostgreSQL, held by one
 * contract suite. Every method is atomic; several controllers may share one PostgreSQL.
 */

import type { AuditEntry, AuditFact, AuditQuery } from "../core/network/audit_entry.ts";
import type { ListQuery, Page } from "../core/network/listing.ts";
import type { Resource, ResourceChange, ResourceKind, ResourceSpecs } from "../core/network/resources.ts";

/** Why a write did not happen. */
export type WriteFault =
  /** The name, or the SPIFFE ID, is taken. */
  | "exists"
  /** There is no such resource. */
  | "missing"
  /** It has changed since the revision the writer saw. */
  | "changed";

/** A write's outcome. */
export type Written<T> = { readonly ok: true; readonly value: T } | {
  readonly ok: false;
  readonly fault: WriteFault;
};

/** A one-time enrolment. */
export interface Enrolment {
  /** The token's `jti`. */
  readonly id: string;
  /** Resource id of the identity. */
  readonly identityId: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly expiresAt: number;
  /** When it was used; null: not yet. */
  readonly usedAt: number | null;
}

/** A certificate the controller issued. */
export interface IssuedCertificateRecord {
  /** Upper-case hexadecimal. */
  readonly serial: string;
  readonly identityId: string;
  /** SPIFFE ID. */
  readonly spiffeId: string;
  /** Milliseconds since the epoch. */
  readonly issuedAt: number;
  readonly notAfter: number;
  /** Key id of the CA that signed it. */
  readonly issuer: string;
  readonly revokedAt: number | null;
}

/** The tunnel addresses of one identity. */
export interface AddressAllocation {
  /** SPIFFE ID, or the name an external client gave. */
  readonly clientId: string;
  /** Dotted quad; null where the network has no IPv4 pool. */
  readonly virtualIp: string | null;
  readonly virtualIp6: string | null;
  /** Milliseconds since the epoch. */
  readonly allocatedAt: number;
  readonly lastSeenAt: number;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Where addresses come from. */
export interface AllocationOptions {
  readonly now: number;
  /** Prefixes such as `10.100.0.0/24`; the network, broadcast and first host address are never given. */
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  /** Addresses wanted for this client before others, when free. */
  readonly reserved?: readonly string[];
  /** Addresses reserved for others. */
  readonly excluded?: readonly string[];
  /** Only from a full pool: an allocation not seen since this time may be taken. */
  readonly reclaimBefore: number;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** An allocation, or why there is none. */
export type AllocationResult =
  | {
    readonly ok: true;
    readonly allocation: AddressAllocation;
    readonly isNew: boolean;
    readonly reclaimed: string | null;
  }
  | { readonly ok: false; readonly fault: "exhausted" };

/** How the pools are used. */
export interface AllocationStats {
  readonly allocated: number;
  readonly oldestSeenAt: number | null;
}

/** A tunnel, flow session or connector's presence at a relay. */
export interface SessionRecord {
  readonly id: string;
  readonly relay: string;
  /** SPIFFE ID. */
  readonly identity: string;
  readonly kind: "agent" | "connector" | "tunnel" | "user";
  /** Public address it came from, `host:port`. */
  readonly remote: string;
  /** Services it has bound, for a connector. */
  readonly services: readonly string[];
  readonly openedAt: number;
  readonly lastSeenAt: number;
  readonly closedAt: number | null;
}

/** A relay as it last reported. */
export interface RelayStatus {
  /** SPIFFE ID. */
  readonly identity: string;
  readonly revision: number;
  readonly version: string;
  readonly sessions: number;
  readonly lastSeenAt: number;
}

/** What controllers of one network tell each other at once besides changes. Nobody hears of it later. */
export type Notice =
  /** The addresses of this client (a SPIFFE ID, or an external name) are no longer its own. */
  | { readonly type: "released"; readonly clientId: string }
  /** The relay (SPIFFE ID) that holds the session of this record is to end it. */
  | { readonly type: "ended"; readonly relay: string; readonly session: string };

/** All changes of one transaction. */
export interface StoreTransaction {
  create<K extends ResourceKind>(
    kind: K,
    resource: { readonly name: string; readonly spec: ResourceSpecs[K] },
  ): Promise<Written<Resource<K>>>;
  /** `ifRevision`: only if the resource is still at that revision. */
  update<K extends ResourceKind>(
    kind: K,
    id: string,
    change: { readonly name?: string; readonly spec: ResourceSpecs[K]; readonly ifRevision?: number },
  ): Promise<Written<Resource<K>>>;
  remove<K extends ResourceKind>(
    kind: K,
    id: string,
    options?: { readonly ifRevision?: number },
  ): Promise<Written<Resource<K>>>;
  get<K extends ResourceKind>(kind: K, id: string): Promise<Resource<K> | undefined>;
  /** By name, or an identity by its SPIFFE ID. */
  find<K extends ResourceKind>(kind: K, key: string): Promise<Resource<K> | undefined>;
  list<K extends ResourceKind>(kind: K, query: ListQuery): Promise<Page<Resource<K>>>;
  addEnrolment(enrolment: Enrolment): Promise<void>;
  /** Marks it used; undefined when it is unknown, used or expired. Of two at once one gets it. */
  useEnrolment(id: string, now: number): Promise<Enrolment | undefined>;
  removeEnrolments(identityId: string): Promise<number>;
  addCertificate(certificate: IssuedCertificateRecord): Promise<void>;
  /** Revokes the unexpired certificates of an identity, or one by serial; returns their serials. */
  revokeCertificates(
    which: { readonly identityId: string } | { readonly serial: string },
    now: number,
  ): Promise<readonly string[]>;
  audit(fact: AuditFact): Promise<void>;
  /** As {@linkcode Store.initSetting}, with the rest of the transaction or not at all. */
  initSetting(key: string, value: string): Promise<string>;
  /** Something only named once: false when `key` was there already (replayed tokens, reported batches). */
  once(key: string, expiresAt: number): Promise<boolean>;
}

/** The database. */
export interface Store extends AsyncDisposable {
  /**
   * Runs `work` in one transaction; it is rolled back when `work` throws. All resource changes in it share one new
   * revision; revisions are gapless in commit order.
   */
  transaction<T>(work: (tx: StoreTransaction) => Promise<T>): Promise<T>;
  get<K extends ResourceKind>(kind: K, id: string): Promise<Resource<K> | undefined>;
  find<K extends ResourceKind>(kind: K, key: string): Promise<Resource<K> | undefined>;
  list<K extends ResourceKind>(kind: K, query: ListQuery): Promise<Page<Resource<K>>>;
  /** Everything at one revision, read consistently. */
  readAll(
    kinds: readonly ResourceKind[],
  ): Promise<{ readonly revision: number; readonly resources: readonly Resource[] }>;
  revision(): Promise<number>;
  /** Changes after a revision, in order; undefined when they are not kept that far back: read all again. */
  changesSince(
    revision: number,
  ): Promise<{ readonly revision: number; readonly changes: readonly ResourceChange[] } | undefined>;
  /** Called soon after any process committed a change; returns the way to stop. */
  onChange(listener: () => void): () => void;
  /**
   * Tells all controllers, this one too: on PostgreSQL in whatever process, on SQLite in this one. What takes addresses
   * away announces it by itself.
   */
  announce(notice: Notice): Promise<void>;
  /** Calls back with each notice that any controller announces; returns the way to stop. */
  onNotice(listener: (notice: Notice) => void): () => void;
  /** Serials of revoked certificates that have not expired by `now`. */
  revokedSerials(now: number): Promise<readonly string[]>;
  certificates(identityId: string): Promise<readonly IssuedCertificateRecord[]>;
  certificate(serial: string): Promise<IssuedCertificateRecord | undefined>;
  enrolments(identityId: string): Promise<readonly Enrolment[]>;
  allocateAddress(clientId: string, options: AllocationOptions): Promise<AllocationResult>;
  addressOf(clientId: string): Promise<AddressAllocation | undefined>;
  /** True when there was one. */
  refreshAddress(clientId: string, now: number): Promise<boolean>;
  releaseAddress(clientId: string): Promise<boolean>;
  addresses(query: { readonly limit: number; readonly cursor?: string }): Promise<Page<AddressAllocation>>;
  addressStats(): Promise<AllocationStats>;
  /** Appends facts to the audit log in order, chaining their hashes; resolves when they are durable. */
  appendAudit(facts: readonly AuditFact[]): Promise<void>;
  /** Newest first. */
  queryAudit(query: AuditQuery): Promise<readonly AuditEntry[]>;
  /** Where the log stands by the database's own note of it, which an entry that was taken off the end leaves behind. */
  auditHead(): Promise<{ readonly seq: number; readonly hash: string }>;
  /** All entries in order, in batches, for verification. */
  readAudit(options?: { readonly from?: number }): AsyncIterable<readonly AuditEntry[]>;
  /** Inserts or replaces. */
  putSessions(sessions: readonly SessionRecord[]): Promise<void>;
  sessions(
    query: {
      readonly limit: number;
      readonly cursor?: string;
      readonly identity?: string;
      readonly relay?: string;
      readonly open?: boolean;
    },
  ): Promise<Page<SessionRecord>>;
  /** Closes what a relay left open, after it restarted or died. */
  closeSessions(relay: string, now: number): Promise<number>;
  putRelay(status: RelayStatus): Promise<void>;
  relays(): Promise<readonly RelayStatus[]>;
  /** Values the controllers of one network share, such as its trust domain and CA fingerprint; never secrets. */
  getSetting(key: string): Promise<string | undefined>;
  /** Sets it unless it is set; returns what is set then. */
  initSetting(key: string, value: string): Promise<string>;
  setSetting(key: string, value: string): Promise<void>;
  /** Removes what is over: used or expired enrolments, expired certificates, old changes and closed sessions. */
  prune(now: number): Promise<void>;
  /** Throws when the database does not answer. */
  ping(): Promise<void>;
}
