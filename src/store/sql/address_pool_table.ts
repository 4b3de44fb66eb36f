/**
 * The free addresses of one pool, as rows. Addresses that nobody had come first, in ascending order; they enter the table in
 * blocks, so that taking one costs the same in a small pool and in a large one, full or empty. On PostgreSQL those who
 * take at the same time step over each other's rows in place of waiting.
 */

import { sql, type SqlBool, type Transaction } from "kysely";
import { formatIp, type IpAddress, type IpPrefix, parseIp, parsePrefix } from "../../base/ip.ts";
import { AddressPool } from "../../core/address_pool.ts";
import type { DatabaseKind } from "./database.ts";
import type { Tables } from "./schema.ts";

/** Fresh addresses made free at once. */
const BLOCK = 256;

/** The first host index a client may have; the one before is the relay's. */
const FIRST_INDEX = 2;

/** One pool within one transaction. */
export class AddressPoolTable {
  readonly #tx: Transaction<Tables>;
  readonly #database: DatabaseKind;
  readonly #pool: string;
  readonly #range: AddressPool;
  readonly #excluded: readonly number[];

  constructor(
    tx: Transaction<Tables>,
    options: {
      readonly database: DatabaseKind;
      /** The prefix as text: the pool's name. */
      readonly pool: string;
      readonly prefix: IpPrefix;
      readonly excluded: readonly IpAddress[];
    },
  ) {
    this.#tx = tx;
    this.#database = options.database;
    this.#pool = options.pool;
    this.#range = new AddressPool(options.prefix);
    this.#excluded = options.excluded.map((address) => this.#range.indexOf(address))
      .filter((index) => index !== undefined);
  }

  /** The host index of an address that a client may have here; undefined for any other. */
  indexOf(address: string | null): number | undefined {
    const parsed = address === null ? undefined : parseIp(address);
    const index = parsed && this.#range.indexOf(parsed);
    return index === undefined || this.#excluded.includes(index) ? undefined : index;
  }

  /** The text of an address. */
  addressAt(index: number): string {
    return formatIp(this.#range.addressAt(index));
  }

  /** Takes this one out of the free ones, if it is among them. */
  async takeExactly(index: number): Promise<boolean> {
    const taken = await this.#tx.deleteFrom("ipam_free").where("pool", "=", this.#pool)
      .where("host_index", "=", index).returning("host_index").executeTakeFirst();
    return taken !== undefined;
  }

  /** Takes the next one; undefined when none is free. */
  async take(): Promise<number | undefined> {
    const fresh = await this.#takeFirst({ isFresh: true });
    if (fresh !== undefined) return fresh;
    if (await this.refill()) {
      const filled = await this.#takeFirst({ isFresh: true });
      if (filled !== undefined) return filled;
    }
    const used = await this.#takeFirst({ isFresh: false });
    if (used !== undefined || this.#database === "sqlite") return used;
    // Rows that others are about to take, or to leave when they fail: wait for each to be decided.
    while (await this.#waitForOne()) {
      const left = await this.#takeFirst({ isFresh: false });
      if (left !== undefined) return left;
    }
    return undefined;
  }

  async #takeFirst({ isFresh }: { readonly isFresh: boolean }): Promise<number | undefined> {
    const skip = this.#database === "postgres" ? sql`FOR UPDATE SKIP LOCKED` : sql``;
    const { rows } = await sql<{ host_index: number }>`
      DELETE FROM ipam_free WHERE pool = ${this.#pool} AND host_index = (
        SELECT host_index FROM ipam_free WHERE pool = ${this.#pool}
          ${isFresh ? sql`AND freed_at = 0` : sql``} ${this.#notExcluded()}
          ORDER BY freed_at, host_index LIMIT 1 ${skip}
      ) RETURNING host_index`.execute(this.#tx);
    return rows[0]?.host_index;
  }

  /** Whether there was a row of another transaction to wait for. */
  async #waitForOne(): Promise<boolean> {
    const { rows } = await sql<{ host_index: number }>`
      SELECT host_index FROM ipam_free WHERE pool = ${this.#pool} ${this.#notExcluded()} LIMIT 1`
      .execute(this.#tx);
    const index = rows[0]?.host_index;
    if (index === undefined) return false;
    await sql`SELECT 1 FROM ipam_free WHERE pool = ${this.#pool} AND host_index = ${index} FOR UPDATE`
      .execute(this.#tx);
    return true;
  }

  /** Makes the next block free, whoever comes first; false when the pool has no further addresses. */
  async refill(): Promise<boolean> {
    const last = this.#range.size + FIRST_INDEX - 1;
    const query = this.#tx.selectFrom("ipam_pools").select("next_index").where("pool", "=", this.#pool);
    const before = await query.executeTakeFirst();
    // An exhausted pool stays so: nobody needs to take turns to learn it.
    if (before !== undefined && before.next_index > last) return false;
    if (before === undefined) {
      await this.#tx.insertInto("ipam_pools").values({ pool: this.#pool, next_index: FIRST_INDEX })
        .onConflict((conflict) => conflict.doNothing()).execute();
    }
    let { next_index: next } = await (this.#database === "postgres" ? query.forUpdate() : query)
      .executeTakeFirstOrThrow();
    // Another refilled while this one waited for the lock.
    if (before !== undefined && next > before.next_index) return true;
    while (next <= last) {
      const end = Math.min(next + BLOCK - 1, last);
      const isAdded =
        await (this.#database === "postgres" ? this.#copyBlock(next, end) : this.#addBlock(next, end));
      next = end + 1;
      if (!isAdded) continue;
      await this.#saveNext(next);
      return true;
    }
    await this.#saveNext(next);
    return false;
  }

  /** As {@linkcode #addBlock}, without its addresses passing through here. */
  async #copyBlock(first: number, end: number): Promise<boolean> {
    const { version } = this.#range.prefix;
    const column = sql.ref(version === 4 ? "virtual_ip" : "virtual_ip6");
    const base = formatIp(this.#range.addressAt(0));
    const { rows } = await sql<{ host_index: number }>`
      INSERT INTO ipam_free (pool, host_index, address, freed_at)
        SELECT ${this.#pool}, n, ${base}::inet + n, 0 FROM generate_series(${first}::bigint, ${end}::bigint) AS n
          WHERE NOT EXISTS (SELECT 1 FROM ipam_allocations WHERE ${column} = ${base}::inet + n)
        ON CONFLICT DO NOTHING RETURNING host_index`.execute(this.#tx);
    return rows.some(({ host_index }) => !this.#excluded.includes(host_index));
  }

  /** Adds what of a block nobody has; false when that is nothing anybody may have now. */
  async #addBlock(first: number, end: number): Promise<boolean> {
    const version = this.#range.prefix.version;
    const column = version === 4 ? "virtual_ip" : "virtual_ip6";
    const block = new Map<string, number>();
    for (let index = first; index <= end; index++) block.set(this.addressAt(index), index);
    const taken = await this.#tx.selectFrom("ipam_allocations").select(`${column} as address`)
      .where(column, "in", [...block.keys()]).execute();
    for (const { address } of taken) block.delete(address ?? "");
    const rows = [...block].map(([address, index]) => ({
      pool: this.#pool,
      host_index: index,
      address,
      freed_at: 0,
    }));
    if (rows.length === 0) return false;
    await this.#tx.insertInto("ipam_free").values(rows).onConflict((conflict) => conflict.doNothing())
      .execute();
    return rows.some(({ host_index }) => !this.#excluded.includes(host_index));
  }

  async #saveNext(next: number): Promise<void> {
    await this.#tx.updateTable("ipam_pools").set({ next_index: next }).where("pool", "=", this.#pool)
      .execute();
  }

  #notExcluded() {
    return this.#excluded.length === 0
      ? sql<SqlBool>``
      : sql<SqlBool>`AND host_index NOT IN (${sql.join([...this.#excluded])})`;
  }
}

/** Makes addresses free that somebody had, in every pool they belong to. */
export async function freeAddresses(
  tx: Transaction<Tables>,
  { addresses, now }: { readonly addresses: readonly string[]; readonly now: number },
): Promise<void> {
  if (addresses.length === 0) return;
  const pools = await tx.selectFrom("ipam_pools").selectAll().execute();
  const rows = pools.flatMap(({ pool, next_index }) =>
    addresses.flatMap((address) => {
      const index = indexIn(pool, address);
      return index === undefined || index >= next_index
        ? []
        : [{ pool, host_index: index, address, freed_at: now }];
    })
  );
  if (rows.length === 0) return;
  await tx.insertInto("ipam_free").values(rows).onConflict((conflict) => conflict.doNothing()).execute();
}

function indexIn(pool: string, address: string): number | undefined {
  const parsed = parseIp(address);
  const prefix = parsePrefix(pool);
  return parsed && prefix && new AddressPool(prefix).indexOf(parsed);
}
