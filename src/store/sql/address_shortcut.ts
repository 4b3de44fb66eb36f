/**
 * The usual allocations on PostgreSQL, in one statement: the client is known, or takes the next free address of each pool.
 * One round trip and one commit in place of six, since several controllers ask one server.
 */

import { type RawBuilder, sql } from "kysely";
import type { Queries } from "./database.ts";
import type { Tables } from "./schema.ts";

type Row = Tables["ipam_allocations"];

/** A pool that an address is to come from. */
export interface ShortcutPool {
  /** The prefix as text. */
  readonly pool: string;
  /** Host indexes that are for others. */
  readonly excluded: readonly number[];
  /** No address is left that nobody had: those that somebody had are next. */
  readonly isDrained: boolean;
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

/** The client's allocation, seen again or new; undefined when it takes more than this. */
export async function allocateAtOnce(
  db: Queries,
  { client, ipv4, ipv6, now, metadata }: Shortcut,
): Promise<{ readonly row: Row; readonly isNew: boolean } | undefined> {
  const { rows } = await sql<Row & { readonly is_new: boolean }>`
    WITH known AS (
      UPDATE ipam_allocations
      SET last_seen_at = ${now}, metadata = coalesce(${metadata ?? null}::jsonb, metadata)
      WHERE client_id = ${client} RETURNING *
    ),
    free4 AS (${findFree(ipv4)}),
    free6 AS (${findFree(ipv6)}),
    gone4 AS (${remove(ipv4, "free4")}),
    gone6 AS (${remove(ipv6, "free6")}),
    added AS (
      INSERT INTO ipam_allocations (client_id, virtual_ip, virtual_ip6, allocated_at, last_seen_at, metadata)
      SELECT ${client}, free4.address, free6.address, ${now}, ${now}, coalesce(${
    metadata ?? null
  }::jsonb, '{}')
      FROM free4, free6 RETURNING *
    )
    SELECT *, false AS is_new FROM known UNION ALL SELECT *, true FROM added`.execute(db);
  const [found] = rows;
  if (found === undefined) return undefined;
  const { is_new: isNew, ...row } = found;
  return { row, isNew };
}

/** The next address, locked; those that others are taking are stepped over. No pool: one row without an address. */
function findFree(pool: ShortcutPool | undefined): RawBuilder<unknown> {
  const unknown = sql`NOT EXISTS (SELECT 1 FROM known)`;
  if (pool === undefined) {
    return sql`SELECT NULL::tid AS place, NULL::inet AS address WHERE ${unknown}`;
  }
  // As one value: however many there are, the statement is the same.
  const excluded = `{${pool.excluded.join(",")}}`;
  return sql`
    SELECT ctid AS place, address FROM ipam_free
    WHERE pool = ${pool.pool} ${pool.isDrained ? sql`` : sql`AND freed_at = 0`}
      AND host_index <> ALL (${excluded}::bigint[]) AND ${unknown}
    ORDER BY freed_at, host_index LIMIT 1 FOR UPDATE SKIP LOCKED`;
}

/** Takes it out of the free ones, if there is one in every pool. By its place: it is locked, so it stays there. */
function remove(pool: ShortcutPool | undefined, from: "free4" | "free6"): RawBuilder<unknown> {
  if (pool === undefined) return sql`SELECT 1`;
  return sql`DELETE FROM ipam_free WHERE ctid = (SELECT ${sql.ref(`${from}.place`)} FROM free4, free6)`;
}
