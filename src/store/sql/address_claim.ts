/**
 * The whole of an ordinary allocation in one statement of PostgreSQL: the client's addresses, or the next free ones. Whoever
 * allocates at the same time steps over the row that this one takes, so that nobody waits for another's commit.
 */

import { type RawBuilder, sql } from "kysely";
import { formatPrefix, type IpAddress, type IpPrefix } from "../../base/ip.ts";
import { AddressPool } from "../../core/address_pool.ts";
import type { Queries } from "./database.ts";
import { toJson, toTime } from "./json_text.ts";
import type { Tables } from "./schema.ts";

/** What to claim. */
export interface AddressClaim {
  readonly client: string;
  readonly now: number;
  readonly metadata: Readonly<Record<string, unknown>> | undefined;
  readonly ipv4: IpPrefix | undefined;
  readonly ipv6: IpPrefix | undefined;
  /** Addresses this client must not get. */
  readonly excluded: readonly IpAddress[];
}

/** What the client has now. */
export interface ClaimedAddresses {
  readonly row: Tables["ipam_allocations"];
  readonly isNew: boolean;
  /** Fresh addresses of the IPv4 pool, or of the only pool, that follow the one given; undefined for a known client. */
  readonly left: number | undefined;
}

/** Undefined when the free addresses at hand do not do: then nothing was changed. */
export async function claimAddresses(
  db: Queries,
  claim: AddressClaim,
): Promise<ClaimedAddresses | undefined> {
  const { client, now, metadata, ipv4, ipv6 } = claim;
  const first = (ipv4 ?? ipv6)!;
  const picks = [
    ...(ipv4 === undefined ? [] : [sql`four AS MATERIALIZED (${nextFree(ipv4, claim)})`]),
    ...(ipv6 === undefined ? [] : sixth(ipv6, claim)),
  ];
  const both = ipv4 !== undefined && ipv6 !== undefined ? sql`, six` : sql``;
  const seen = sql`${toTime(now)}::timestamptz`;
  const { rows } = await sql<Tables["ipam_allocations"] & { is_new: boolean; fresh_left: number | null }>`
    WITH known AS (
      UPDATE ipam_allocations SET last_seen_at = ${seen}
        ${metadata === undefined ? sql`` : sql`, metadata = ${toJson(metadata)}::jsonb`}
        WHERE client_id = ${client} RETURNING *
    ), ${sql.join(picks)},
    found AS MATERIALIZED (
      SELECT ${ipv4 === undefined ? sql`NULL::inet` : sql`four.address`} AS virtual_ip,
        ${ipv6 === undefined ? sql`NULL::inet` : sql`six.address`} AS virtual_ip6,
        ${ipv4 === undefined ? sql`NULL::bigint` : sql`four.host_index`} AS index4,
        ${ipv6 === undefined ? sql`NULL::bigint` : sql`six.host_index`} AS index6
      FROM ${ipv4 === undefined ? sql`six` : sql`four${both}`}
    ),
    ${
    sql.join([ipv4 && taken("index4", ipv4), ipv6 && taken("index6", ipv6)].filter((part) =>
      part !== undefined
    ))
  },
    made AS (
      INSERT INTO ipam_allocations (client_id, virtual_ip, virtual_ip6, allocated_at, last_seen_at, metadata)
        SELECT ${client}, virtual_ip, virtual_ip6, ${seen}, ${seen}, ${
    toJson(metadata ?? {})
  }::jsonb FROM found
        RETURNING *
    )
    SELECT *, false AS is_new, NULL::bigint AS fresh_left FROM known
    UNION ALL
    SELECT made.*, true, (
      SELECT next_index FROM ipam_pools WHERE pool = ${formatPrefix(first)}
    ) - coalesce(found.index4, found.index6) FROM made, found`.execute(db);
  const [found] = rows;
  if (found === undefined) return undefined;
  const { is_new: isNew, fresh_left: left, ...row } = found;
  return { row, isNew, left: left ?? undefined };
}

/** The same host part as the IPv4 address has, where that is free; or the next one. */
function sixth(prefix: IpPrefix, claim: AddressClaim): RawBuilder<unknown>[] {
  if (claim.ipv4 === undefined) return [sql`six AS MATERIALIZED (${nextFree(prefix, claim)})`];
  const pool = formatPrefix(prefix);
  return [
    sql`twin AS MATERIALIZED (
      SELECT host_index, address FROM ipam_free
        WHERE pool = ${pool} AND host_index = (SELECT host_index FROM four) ${notExcluded(prefix, claim)}
        FOR UPDATE SKIP LOCKED
    )`,
    sql`other AS MATERIALIZED (${nextFree(prefix, claim)})`,
    sql`six AS MATERIALIZED (
      SELECT host_index, address FROM twin
      UNION ALL
      SELECT host_index, address FROM other WHERE NOT EXISTS (SELECT 1 FROM twin)
    )`,
  ];
}

/** The next free address of a pool, for a client that has none: a used one only when there are no fresh ones. */
function nextFree(prefix: IpPrefix, claim: AddressClaim): RawBuilder<unknown> {
  const pool = formatPrefix(prefix);
  const last = new AddressPool(prefix).size + 1;
  return sql`SELECT host_index, address FROM ipam_free
    WHERE pool = ${pool} AND NOT EXISTS (SELECT 1 FROM known) ${notExcluded(prefix, claim)}
      AND freed_at <= (
        SELECT CASE WHEN EXISTS (
          SELECT 1 FROM ipam_pools WHERE pool = ${pool} AND next_index > ${last}::bigint
        ) THEN 9223372036854775807 ELSE 0 END
      )
    ORDER BY freed_at, host_index LIMIT 1 FOR UPDATE SKIP LOCKED`;
}

function taken(column: "index4" | "index6", prefix: IpPrefix): RawBuilder<unknown> {
  return sql`${sql.ref(`taken_${column}`)} AS (
    DELETE FROM ipam_free WHERE pool = ${formatPrefix(prefix)}
      AND host_index = (SELECT ${sql.ref(column)} FROM found)
  )`;
}

function notExcluded(prefix: IpPrefix, { excluded }: AddressClaim): RawBuilder<unknown> {
  const range = new AddressPool(prefix);
  const indexes = excluded.map((address) => range.indexOf(address)).filter((index) => index !== undefined);
  return indexes.length === 0 ? sql`` : sql`AND host_index NOT IN (${sql.join(indexes)})`;
}
