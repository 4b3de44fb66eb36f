/** The store on either database. */

import { AsyncLocalStorage } from "node:async_hooks";
import { sql } from "kysely";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ListQuery, Page } from "../../core/network/listing.ts";
import type {
  AddressAllocation,
  AllocationOptions,
  AllocationResult,
  AllocationStats,
  Enrolment,
  IssuedCertificateRecord,
  Notice,
  RelayStatus,
  SessionRecord,
  Store,
  StoreTransaction,
} from "../../control/store.ts";
import type { AuditEntry, AuditFact, AuditQuery } from "../../core/network/audit_entry.ts";
import type { Resource, ResourceChange, ResourceKind } from "../../core/network/resources.ts";
import { AddressBook } from "./address_book.ts";
import { AuditLog } from "./audit_log.ts";
import { pruneChanges, readChanges, readEverything } from "./change_log.ts";
import { ChangeWatch } from "./change_watch.ts";
import { type Database, readConsistently } from "./database.ts";
import { Presence } from "./presence.ts";
import { findResource, getResource, listResources } from "./resource_reader.ts";
import { initSetting, lockRevision, SqlTransaction, toCertificate, toEnrolment } from "./sql_transaction.ts";
import { TurnLock } from "./turn_lock.ts";

/** How long closed sessions and used enrolments stay visible. */
const KEPT_FOR = 30 * 24 * 3_600_000;

/** What a store needs besides its database. */
export interface SqlStoreOptions {
  readonly logger: Logger;
  readonly now: () => number;
}

/** A {@linkcode Store} on SQL. */
export class SqlStore implements Store {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #addresses: AddressBook;
  readonly #audit: AuditLog;
  readonly #presence: Presence;
  readonly #watch: ChangeWatch;
  /** Transactions take turns here before they do so in the database: those that wait hold no connection. */
  readonly #turns = new TurnLock();
  readonly #scope = new AsyncLocalStorage<true>();
  #closing: Promise<void> | undefined;

  constructor(database: Database, { logger, now }: SqlStoreOptions) {
    this.#database = database;
    this.#now = now;
    this.#watch = new ChangeWatch(database, logger);
    this.#addresses = new AddressBook(database, { now, watch: this.#watch });
    this.#audit = new AuditLog(database);
    this.#presence = new Presence(database);
  }

  async transaction<T>(work: (tx: StoreTransaction) => Promise<T>): Promise<T> {
    this.#refuseNested();
    const options = { database: this.#database.kind, now: this.#now };
    await this.#turns.take();
    let isChanged = false;
    let result: T;
    try {
      result = await this.#database.writer.transaction().execute(async (connection) => {
        const tx = await SqlTransaction.begin(connection, options);
        const value = await this.#scope.run(true, () => work(tx));
        isChanged = await tx.finish();
        return value;
      });
    } finally {
      this.#turns.give();
    }
    if (isChanged) this.#watch.tell();
    return result;
  }

  get<K extends ResourceKind>(kind: K, id: string): Promise<Resource<K> | undefined> {
    return getResource(this.#database.reader, { kind, id });
  }

  find<K extends ResourceKind>(kind: K, key: string): Promise<Resource<K> | undefined> {
    return findResource(this.#database.reader, { kind, key });
  }

  list<K extends ResourceKind>(kind: K, query: ListQuery): Promise<Page<Resource<K>>> {
    return listResources(this.#database.reader, { kind, query, database: this.#database.kind });
  }

  readAll(
    kinds: readonly ResourceKind[],
  ): Promise<{ readonly revision: number; readonly resources: readonly Resource[] }> {
    return readConsistently(this.#database, (tx) => readEverything(tx, kinds));
  }

  async revision(): Promise<number> {
    const { revision } = await this.#database.reader.selectFrom("network_state").select("revision")
      .where("id", "=", 1).executeTakeFirstOrThrow();
    return revision;
  }

  changesSince(
    revision: number,
  ): Promise<{ readonly revision: number; readonly changes: readonly ResourceChange[] } | undefined> {
    return readConsistently(this.#database, (tx) => readChanges(tx, revision));
  }

  onChange(listener: () => void): () => void {
    return this.#watch.onChange(listener);
  }

  async announce(notice: Notice): Promise<void> {
    this.#refuseNested();
    await this.#watch.announce(notice);
  }

  onNotice(listener: (notice: Notice) => void): () => void {
    return this.#watch.onNotice(listener);
  }

  async revokedSerials(now: number): Promise<readonly string[]> {
    const rows = await this.#database.reader.selectFrom("certificates").select("serial")
      .where("revoked_at", "is not", null).where("not_after", ">", now).orderBy("serial").execute();
    return rows.map(({ serial }) => serial);
  }

  async certificates(identityId: string): Promise<readonly IssuedCertificateRecord[]> {
    const rows = await this.#database.reader.selectFrom("certificates").selectAll()
      .where("identity_id", "=", identityId).orderBy("issued_at").orderBy("serial").execute();
    return rows.map(toCertificate);
  }

  async certificate(serial: string): Promise<IssuedCertificateRecord | undefined> {
    const row = await this.#database.reader.selectFrom("certificates").selectAll().where(
      "serial",
      "=",
      serial,
    )
      .executeTakeFirst();
    return row && toCertificate(row);
  }

  async enrolments(identityId: string): Promise<readonly Enrolment[]> {
    const rows = await this.#database.reader.selectFrom("enrolments").selectAll()
      .where("identity_id", "=", identityId).orderBy("created_at").orderBy("id").execute();
    return rows.map(toEnrolment);
  }

  async allocateAddress(clientId: string, options: AllocationOptions): Promise<AllocationResult> {
    this.#refuseNested();
    return await this.#addresses.allocate(clientId, options);
  }

  addressOf(clientId: string): Promise<AddressAllocation | undefined> {
    return this.#addresses.of(clientId);
  }

  async refreshAddress(clientId: string, now: number): Promise<boolean> {
    this.#refuseNested();
    return await this.#addresses.refresh(clientId, now);
  }

  async releaseAddress(clientId: string): Promise<boolean> {
    this.#refuseNested();
    return await this.#addresses.release(clientId);
  }

  addresses(query: { readonly limit: number; readonly cursor?: string }): Promise<Page<AddressAllocation>> {
    return this.#addresses.list(query);
  }

  addressStats(): Promise<AllocationStats> {
    return this.#addresses.stats();
  }

  async appendAudit(facts: readonly AuditFact[]): Promise<void> {
    this.#refuseNested();
    await this.#audit.append(facts);
  }

  queryAudit(query: AuditQuery): Promise<readonly AuditEntry[]> {
    return this.#audit.query(query);
  }

  auditHead(): Promise<{ readonly seq: number; readonly hash: string }> {
    return this.#audit.head();
  }

  readAudit({ from }: { readonly from?: number } = {}): AsyncIterable<readonly AuditEntry[]> {
    return this.#audit.read(from);
  }

  async putSessions(sessions: readonly SessionRecord[]): Promise<void> {
    this.#refuseNested();
    await this.#presence.putSessions(sessions);
  }

  sessions(query: Parameters<Store["sessions"]>[0]): Promise<Page<SessionRecord>> {
    return this.#presence.sessions(query);
  }

  async closeSessions(relay: string, now: number): Promise<number> {
    this.#refuseNested();
    return await this.#presence.closeSessions(relay, now);
  }

  async putRelay(status: RelayStatus): Promise<void> {
    this.#refuseNested();
    await this.#presence.putRelay(status);
  }

  relays(): Promise<readonly RelayStatus[]> {
    return this.#presence.relays();
  }

  async getSetting(key: string): Promise<string | undefined> {
    const row = await this.#database.reader.selectFrom("settings").select("value").where("key", "=", key)
      .executeTakeFirst();
    return row?.value;
  }

  async initSetting(key: string, value: string): Promise<string> {
    this.#refuseNested();
    return await initSetting(this.#database.writer, { key, value });
  }

  async setSetting(key: string, value: string): Promise<void> {
    this.#refuseNested();
    await this.#database.writer.insertInto("settings").values({ key, value })
      .onConflict((conflict) => conflict.column("key").doUpdateSet({ value })).execute();
  }

  async prune(now: number): Promise<void> {
    this.#refuseNested();
    await this.#database.writer.transaction().execute(async (tx) => {
      await lockRevision(tx, this.#database.kind);
      await pruneChanges(tx, now);
      await tx.deleteFrom("enrolments")
        .where((eb) => eb.or([eb("expires_at", "<", now), eb("used_at", "<", now - KEPT_FOR)])).execute();
      await tx.deleteFrom("certificates").where("not_after", "<", now).execute();
      await tx.deleteFrom("sessions").where("closed_at", "<", now - KEPT_FOR).execute();
      await tx.deleteFrom("once").where("expires_at", "<", now).execute();
    });
  }

  async ping(): Promise<void> {
    try {
      await sql`SELECT 1`.execute(this.#database.reader);
    } catch (error) {
      throw new GinnelError("ERR_DATABASE_AWAY", `Cannot reach the database: ${errorMessage(error)}`, {
        cause: error,
        hint: "Look whether the database runs and whether its disk is full",
      });
    }
  }

  /** Waits for what is under way and closes the database. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#watch.close();
    await this.#turns.take();
    this.#turns.give();
    await this.#addresses.settled();
    await this.#database.close();
  }

  /** A write of its own inside a transaction would wait for that transaction, which waits for it. */
  #refuseNested(): void {
    if (this.#scope.getStore() !== true) return;
    throw new GinnelError("ERR_STORE_NESTED", "Cannot write beside a transaction from inside it", {
      hint: "Use the transaction that was passed, or write after it",
    });
  }
}
