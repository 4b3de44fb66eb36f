/**
 * The usual allocations on PostgreSQL, in one statement: the client is known, or takes the next free address of each pool.
 * One round trip and one commit in place of six, since several controllers ask one server. Whoever allocates at the same
 * time steps over the rows that this one takes, so that nobody waits for another's commit.
 */

import { type RawBuilder, sql } from "kysely";
import type { Queries } from "./database.ts";
import type { Tables } from "./schema.ts";

type Row = Tables["ipam_allocations"];

/** A pool that an address is to come from. */
export interface ShortcutPool {
  /** The prefix as text. */
  readonly pool: string;
  /** The last host index. */
  readonly last: number;
  /** Host indexes that are for others. */
  readonly excluded: readonly number[];
}

/** What to allocate. */
export interface Shortcut {
  readonly client: string;
  readonly ipv4: ShortcutPool | undefined;
  readonly ipv6: ShortcutPool | undefined;
  readonly now: number;
  /** JSON; undefined: as it was. */
  readonly metadata: string | undefined;
}

/** What the client has. */
export interface ShortcutResult {
  readonly row: Row;
  readonly isNew: boolean;
  /** Addresses after the new one that nobody had and that wait in the table, at most; undefined for a known client. */
  readonly left: number | undefined;
}

/** The client's allocation, seen again or new; undefined when it takes more than this, and then nothing is changed. */
export async function allocateAtOnce(
  db: Queries,
  { client, ipv4, ipv6, now, metadata: given }: Shortcut,
): Promise<ShortcutResult | undefined> {
  const metadata = given ?? null;
  const { rows } = await sql<Row & { readonly is_new: boolean; readonly left: number | null }>`
    WITH known AS (
      UPDATE ipam_allocations
      SET last_seen_at = ${now}, metadata = coalesce(${metadata}::jsonb, metadata)
      WHERE client_id = ${client} RETURNING *
    ),
    free4 AS MATERIALIZED (${findNext(ipv4)}),
    ${findSixth(ipv6)},
    gone4 AS (${remove(ipv4, "free4")}),
    gone6 AS (${remove(ipv6, "free6")}),
    added AS (
      INSERT INTO ipam_allocations (client_id, virtual_ip, virtual_ip6, allocated_at, last_seen_at, metadata)
      SELECT ${client}, free4.address, free6.address, ${now}, ${now}, coalesce(${metadata}::jsonb, '{}')
      FROM free4, free6 RETURNING *
    )
    SELECT *, false AS is_new, NULL::bigint AS left FROM known
    UNION ALL
    SELECT added.*, true, least(${leftOf(ipv4, "free4")}, ${leftOf(ipv6, "free6")}) FROM added`.execute(db);
  const [found] = rows;
  if (found === undefined) return undefined;
  const { is_new: isNew, left, ...row } = found;
  return { row, isNew, left: left ?? undefined };
}

/** A client that is not known yet. */
const IS_NEW = sql`NOT EXISTS (SELECT 1 FROM known)`;

/**
 * The next address, locked; those that others are taking are stepped over. One that somebody had comes only from a pool
 * without any that nobody had. No pool: one row without an address.
 */
function findNext(pool: ShortcutPool | undefined): RawBuilder<unknown> {
  if (pool === undefined) {
    return sql`SELECT NULL::tid AS place, NULL::bigint AS host_index, NULL::inet AS address WHERE ${IS_NEW}`;
  }
  return sql`
    SELECT ctid AS place, host_index, address FROM ipam_free
    WHERE pool = ${pool.pool} AND ${isOpen(pool)} AND ${IS_NEW} AND freed_at <= (
      SELECT CASE WHEN count(*) > 0 THEN 9223372036854775807 ELSE 0 END FROM ipam_pools
      WHERE pool = ${pool.pool} AND next_index > ${pool.last}
    )
    ORDER BY freed_at, host_index LIMIT 1 FOR UPDATE SKIP LOCKED`;
}

/** The IPv6 address with the same host part as the IPv4 address, where that is free; or the next one. */
function findSixth(pool: ShortcutPool | undefined): RawBuilder<unknown> {
  if (pool === undefined) return sql`free6 AS MATERIALIZED (${findNext(pool)})`;
  return sql`
    twin AS MATERIALIZED (
      SELECT ctid AS place, host_index, address FROM ipam_free
      WHERE pool = ${pool.pool} AND host_index = (SELECT host_index FROM free4) AND ${isOpen(pool)}
      FOR UPDATE SKIP LOCKED
    ),
    next6 AS MATERIALIZED (${findNext(pool)}),
    free6 AS MATERIALIZED (
      SELECT * FROM twin UNION ALL SELECT * FROM next6 WHERE NOT EXISTS (SELECT 1 FROM twin)
    )`;
}

function isOpen({ excluded }: ShortcutPool): RawBuilder<unknown> {
  // As one value: however many there are, the statement is the same.
  return sql`host_index <> ALL (${`{${excluded.join(",")}}`}::bigint[])`;
}

/** Takes it out of the free ones, if there is one in every pool. By its place: it is locked, so it stays there. */
function remove(pool: ShortcutPool | undefined, from: "free4" | "free6"): RawBuilder<unknown> {
  if (pool === undefined) return sql`SELECT 1`;
  return sql`DELETE FROM ipam_free WHERE ctid = (SELECT ${sql.ref(`${from}.place`)} FROM free4, free6)`;
}

function leftOf(pool: ShortcutPool | undefined, from: "free4" | "free6"): RawBuilder<unknown> {
  if (pool === undefined) return sql`NULL::bigint`;
  return sql`(
    SELECT next_index - (SELECT host_index FROM ${sql.ref(from)}) FROM ipam_pools WHERE pool = ${pool.pool}
  )`;
}
