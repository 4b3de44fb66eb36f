/**
 * The usual allocations on PostgreSQL, in one statement: the client is known, or takes the next free address of each pool.
 * One round trip and one commit in place of six, since several controllers ask one server. Whoever allocates at the same
 * time steps over the rows that this one takes, so that nobody waits for another's commit.
 */

import { CompiledQuery } from "kysely";
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
  { client, ipv4, ipv6, now, metadata }: Shortcut,
): Promise<ShortcutResult | undefined> {
  const parameters: unknown[] = [client, now, metadata ?? null];
  for (const pool of [ipv4, ipv6]) {
    // The excluded as one value: however many there are, the statement is the same.
    if (pool !== undefined) parameters.push(pool.pool, pool.last, `{${pool.excluded.join(",")}}`);
  }
  const text = textFor({ hasIpv4: ipv4 !== undefined, hasIpv6: ipv6 !== undefined });
  const { rows } = await db.executeQuery<Row & { readonly is_new: boolean; readonly left: number | null }>(
    CompiledQuery.raw(text, parameters),
  );
  const [found] = rows;
  if (found === undefined) return undefined;
  const { is_new: isNew, left, ...row } = found;
  return { row, isNew, left: left ?? undefined };
}

/** One family of a statement: which of its parameters the pool is. */
interface Family {
  readonly version: 4 | 6;
  readonly column: "virtual_ip" | "virtual_ip6";
  /** Placeholders of the pool's name, last index and excluded indexes. */
  readonly pool: string;
  readonly last: string;
  readonly excluded: string;
}

/** Statements by the families they are about: written once, with each parameter once, since they are run so often. */
const TEXTS = new Map<string, string>();

function textFor(has: { readonly hasIpv4: boolean; readonly hasIpv6: boolean }): string {
  const key = `${has.hasIpv4} ${has.hasIpv6}`;
  const known = TEXTS.get(key);
  if (known !== undefined) return known;
  const family = (version: 4 | 6, first: number): Family => ({
    version,
    column: version === 4 ? "virtual_ip" : "virtual_ip6",
    pool: `$${first}`,
    last: `$${first + 1}`,
    excluded: `$${first + 2}`,
  });
  const families = [
    ...(has.hasIpv4 ? [family(4, 4)] : []),
    ...(has.hasIpv6 ? [family(6, has.hasIpv4 ? 7 : 4)] : []),
  ];
  const text = write(families);
  TEXTS.set(key, text);
  return text;
}

function write(families: readonly Family[]): string {
  const each = (make: (family: Family) => string) => families.map(make).join(", ");
  const free = each(({ version }) => `free${version}`);
  return `
    WITH known AS (
      UPDATE ipam_allocations SET last_seen_at = $2, metadata = coalesce($3::jsonb, metadata)
      WHERE client_id = $1 RETURNING *
    ),
    ${
    each(({ version, pool }) =>
      `pool${version} AS MATERIALIZED (
      SELECT next_index FROM ipam_pools WHERE pool = ${pool}
    )`
    )
  },
    ${each((family) => family.version === 6 && families.length === 2 ? sixth(family) : next(family, "free"))},
    ${
    each(({ version }) =>
      `gone${version} AS (
      -- By its place: it is locked, so it stays there. Only if there is one in every pool.
      DELETE FROM ipam_free WHERE ctid = (SELECT free${version}.place FROM ${free})
    )`
    )
  },
    added AS (
      INSERT INTO ipam_allocations
        (client_id, ${each(({ column }) => column)}, allocated_at, last_seen_at, metadata)
      SELECT $1, ${each(({ version }) => `free${version}.address`)}, $2, $2, coalesce($3::jsonb, '{}')
      FROM ${free} RETURNING *
    )
    SELECT *, false AS is_new, NULL::bigint AS left FROM known
    UNION ALL
    SELECT *, true, least(${
    each(({ version }) => `(SELECT next_index FROM pool${version}) - (SELECT host_index FROM free${version})`)
  }) FROM added`;
}

/**
 * The next address, locked; those that others are taking are stepped over. One that somebody had comes only from a pool
 * without any that nobody had.
 */
function next({ version, pool, last, excluded }: Family, name: "free" | "next"): string {
  return `${name}${version} AS MATERIALIZED (
    SELECT ctid AS place, host_index, address FROM ipam_free
    WHERE pool = ${pool} AND host_index <> ALL (${excluded}::bigint[]) AND NOT EXISTS (SELECT 1 FROM known)
      AND freed_at <= (
        SELECT CASE WHEN max(next_index) > ${last} THEN 9223372036854775807 ELSE 0 END FROM pool${version}
      )
    ORDER BY freed_at, host_index LIMIT 1 FOR UPDATE SKIP LOCKED
  )`;
}

/** The IPv6 address with the same host part as the IPv4 address, where that is free; or the next one. */
function sixth(family: Family): string {
  const { pool, excluded } = family;
  return `twin AS MATERIALIZED (
    SELECT ctid AS place, host_index, address FROM ipam_free
    WHERE pool = ${pool} AND host_index = (SELECT host_index FROM free4)
      AND host_index <> ALL (${excluded}::bigint[])
    FOR UPDATE SKIP LOCKED
  ),
  ${next(family, "next")},
  free6 AS MATERIALIZED (
    SELECT * FROM twin UNION ALL SELECT * FROM next6 WHERE NOT EXISTS (SELECT 1 FROM twin)
  )`;
}
