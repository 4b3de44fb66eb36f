/**
 * The changes of one transaction. Whoever is in one holds the lock on the network's revision, so transactions come one
 * after another: what one has read stays true until it commits.
 */

import { type Kysely, sql, type Transaction } from "kysely";
import type { ListQuery, Page } from "../../core/network/listing.ts";
import type { Enrolment, IssuedCertificateRecord, StoreTransaction, Written } from "../../control/store.ts";
import type { AuditFact } from "../../core/network/audit_entry.ts";
import type { Resource, ResourceKind, ResourceSpecs } from "../../core/network/resources.ts";
import { appendFacts } from "./audit_log.ts";
import { CHANGE_CHANNEL, type DatabaseKind } from "./database.ts";
import { findResource, getResource, listResources } from "./resource_reader.ts";
import { tableOf, toResource, toRow, toRuleRows } from "./resource_tables.ts";
import type { Tables } from "./schema.ts";

/** What a transaction needs. */
export interface SqlTransactionOptions {
  readonly database: DatabaseKind;
  readonly now: () => number;
}

/** Takes the lock on the network's revision and returns the revision. */
export async function lockRevision(tx: Transaction<Tables>, database: DatabaseKind): Promise<number> {
  const query = tx.selectFrom("network_state").select("revision").where("id", "=", 1);
  const { revision } = await (database === "postgres" ? query.forUpdate() : query).executeTakeFirstOrThrow();
  return revision;
}

/** Sets a setting unless it is set; returns what is set then. */
export async function initSetting(
  database: Kysely<Tables>,
  setting: { readonly key: string; readonly value: string },
): Promise<string> {
  await database.insertInto("settings").values(setting).onConflict((conflict) => conflict.doNothing())
    .execute();
  const row = await database.selectFrom("settings").select("value").where("key", "=", setting.key)
    .executeTakeFirstOrThrow();
  return row.value;
}

/** One transaction. */
export class SqlTransaction implements StoreTransaction {
  readonly #tx: Transaction<Tables>;
  readonly #database: DatabaseKind;
  readonly #now: () => number;
  /** The revision its changes will have. */
  readonly #revision: number;
  #isChanged = false;
  readonly #facts: AuditFact[] = [];

  private constructor(tx: Transaction<Tables>, { database, now }: SqlTransactionOptions, revision: number) {
    this.#tx = tx;
    this.#database = database;
    this.#now = now;
    this.#revision = revision;
  }

  /** Waits until no other transaction is under way. */
  static async begin(tx: Transaction<Tables>, options: SqlTransactionOptions): Promise<SqlTransaction> {
    return new SqlTransaction(tx, options, await lockRevision(tx, options.database) + 1);
  }

  /** Writes what belongs at the end; returns whether there is a new revision. */
  async finish(): Promise<boolean> {
    // Last, so that the audit log is locked for no longer than it takes.
    if (this.#facts.length > 0) await appendFacts(this.#tx, { facts: this.#facts, database: this.#database });
    if (!this.#isChanged) return false;
    await this.#tx.updateTable("network_state").set({ revision: this.#revision }).where("id", "=", 1)
      .execute();
    if (this.#database === "postgres") {
      await sql`SELECT pg_notify(${CHANGE_CHANNEL}, ${String(this.#revision)})`.execute(this.#tx);
    }
    return true;
  }

  async create<K extends ResourceKind>(
    kind: K,
    resource: { readonly name: string; readonly spec: ResourceSpecs[K] },
  ): Promise<Written<Resource<K>>> {
    const now = this.#now();
    const row = {
      ...toRow(kind, resource),
      id: crypto.randomUUID(),
      revision: this.#revision,
      created_at: now,
      updated_at: now,
    };
    const stored = await this.#tx.insertInto(tableOf(kind)).values(row)
      .onConflict((conflict) => conflict.doNothing()).returningAll().executeTakeFirst();
    if (stored === undefined) return { ok: false, fault: "exists" };
    await this.#recordChange(kind, stored.id);
    await this.#writeRules(kind, stored.id, resource.spec);
    return { ok: true, value: toResource(kind, stored) };
  }

  async update<K extends ResourceKind>(
    kind: K,
    id: string,
    change: { readonly name?: string; readonly spec: ResourceSpecs[K]; readonly ifRevision?: number },
  ): Promise<Written<Resource<K>>> {
    const current = await getResource(this.#tx, { kind, id });
    if (current === undefined) return { ok: false, fault: "missing" };
    if (change.ifRevision !== undefined && change.ifRevision !== current.revision) {
      return { ok: false, fault: "changed" };
    }
    const row = toRow(kind, { name: change.name ?? current.name, spec: change.spec });
    if (await this.#isTaken(kind, { id, row, spec: change.spec })) return { ok: false, fault: "exists" };
    const stored = await this.#tx.updateTable(tableOf(kind))
      .set({ ...row, revision: this.#revision, updated_at: Math.max(this.#now(), current.createdAt) })
      .where("id", "=", id).returningAll().executeTakeFirstOrThrow();
    await this.#recordChange(kind, id);
    await this.#writeRules(kind, id, change.spec);
    return { ok: true, value: toResource(kind, stored) };
  }

  async remove<K extends ResourceKind>(
    kind: K,
    id: string,
    { ifRevision }: { readonly ifRevision?: number } = {},
  ): Promise<Written<Resource<K>>> {
    const current = await getResource(this.#tx, { kind, id });
    if (current === undefined) return { ok: false, fault: "missing" };
    if (ifRevision !== undefined && ifRevision !== current.revision) return { ok: false, fault: "changed" };
    await this.#tx.deleteFrom(tableOf(kind)).where("id", "=", id).execute();
    await this.#recordChange(kind, id);
    return { ok: true, value: current };
  }

  get<K extends ResourceKind>(kind: K, id: string): Promise<Resource<K> | undefined> {
    return getResource(this.#tx, { kind, id });
  }

  find<K extends ResourceKind>(kind: K, key: string): Promise<Resource<K> | undefined> {
    return findResource(this.#tx, { kind, key });
  }

  list<K extends ResourceKind>(kind: K, query: ListQuery): Promise<Page<Resource<K>>> {
    return listResources(this.#tx, { kind, query, database: this.#database });
  }

  async addEnrolment({ id, identityId, createdAt, expiresAt, usedAt }: Enrolment): Promise<void> {
    await this.#tx.insertInto("enrolments").values({
      id,
      identity_id: identityId,
      created_at: createdAt,
      expires_at: expiresAt,
      used_at: usedAt,
    }).execute();
  }

  async useEnrolment(id: string, now: number): Promise<Enrolment | undefined> {
    const row = await this.#tx.updateTable("enrolments").set({ used_at: now })
      .where("id", "=", id).where("used_at", "is", null).where("expires_at", ">", now)
      .returningAll().executeTakeFirst();
    return row && toEnrolment(row);
  }

  async removeEnrolments(identityId: string): Promise<number> {
    const removed = await this.#tx.deleteFrom("enrolments").where("identity_id", "=", identityId)
      .returning("id").execute();
    return removed.length;
  }

  async addCertificate(certificate: IssuedCertificateRecord): Promise<void> {
    const { serial, identityId, spiffeId, issuedAt, notAfter, issuer, revokedAt } = certificate;
    await this.#tx.insertInto("certificates").values({
      serial,
      identity_id: identityId,
      spiffe_id: spiffeId,
      issued_at: issuedAt,
      not_after: notAfter,
      issuer,
      revoked_at: revokedAt,
    }).execute();
  }

  async revokeCertificates(
    which: { readonly identityId: string } | { readonly serial: string },
    now: number,
  ): Promise<readonly string[]> {
    const revoke = this.#tx.updateTable("certificates").set({ revoked_at: now })
      .where("revoked_at", "is", null).where("not_after", ">", now).returning("serial");
    const rows =
      await ("serial" in which
        ? revoke.where("serial", "=", which.serial)
        : revoke.where("identity_id", "=", which.identityId)).execute();
    // A new revision without a changed resource: followers hear of it and ask for the revoked serials again.
    if (rows.length > 0) this.#isChanged = true;
    return rows.map(({ serial }) => serial).sort();
  }

  audit(fact: AuditFact): Promise<void> {
    this.#facts.push(fact);
    return Promise.resolve();
  }

  initSetting(key: string, value: string): Promise<string> {
    return initSetting(this.#tx, { key, value });
  }

  async once(key: string, expiresAt: number): Promise<boolean> {
    const row = await this.#tx.insertInto("once").values({ key, expires_at: expiresAt })
      .onConflict((conflict) => conflict.doNothing()).returning("key").executeTakeFirst();
    return row !== undefined;
  }

  async #recordChange(kind: ResourceKind, id: string): Promise<void> {
    this.#isChanged = true;
    await this.#tx.insertInto("changes")
      .values({ revision: this.#revision, kind, resource_id: id, changed_at: this.#now() })
      .onConflict((conflict) => conflict.doNothing()).execute();
  }

  /** Whether another resource has the name or SPIFFE ID: asked before, since an error would end the transaction. */
  async #isTaken<K extends ResourceKind>(
    kind: K,
    { id, row, spec }: {
      readonly id: string;
      readonly row: { readonly name: string };
      readonly spec: ResourceSpecs[K];
    },
  ): Promise<boolean> {
    const others = this.#tx.selectFrom(tableOf(kind)).select("id").where("id", "<>", id);
    if (kind !== "identity") {
      return await others.where("name", "=", row.name).executeTakeFirst() !== undefined;
    }
    const { type, spiffeId } = spec as ResourceSpecs["identity"];
    const other = await this.#tx.selectFrom("identities").select("id").where("id", "<>", id)
      .where((eb) => eb.or([eb.and({ type, name: row.name }), eb("spiffe_id", "=", spiffeId)]))
      .executeTakeFirst();
    return other !== undefined;
  }

  /** The rules of an egress policy stand in a table of their own too, one row each. */
  async #writeRules<K extends ResourceKind>(kind: K, id: string, spec: ResourceSpecs[K]): Promise<void> {
    if (kind !== "egress-policy") return;
    await this.#tx.deleteFrom("policy_rules").where("policy_id", "=", id).execute();
    const rows = toRuleRows(id, (spec as ResourceSpecs["egress-policy"]).document);
    for (let start = 0; start < rows.length; start += 1_000) {
      await this.#tx.insertInto("policy_rules").values(rows.slice(start, start + 1_000)).execute();
    }
  }
}

/** An enrolment of its row. */
export function toEnrolment(row: Tables["enrolments"]): Enrolment {
  return {
    id: row.id,
    identityId: row.identity_id,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    usedAt: row.used_at,
  };
}

/** A certificate of its row. */
export function toCertificate(row: Tables["certificates"]): IssuedCertificateRecord {
  return {
    serial: row.serial,
    identityId: row.identity_id,
    spiffeId: row.spiffe_id,
    issuedAt: row.issued_at,
    notAfter: row.not_after,
    issuer: row.issuer,
    revokedAt: row.revoked_at,
  };
}
