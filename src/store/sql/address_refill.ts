/**
 * Puts fresh addresses into PostgreSQL's table of free ones ahead of need, so that who allocates finds them there. One
 * refill of a pool is under way in a process at a time, in a transaction that nothing else waits in.
 */

import { formatPrefix, type IpAddress, type IpPrefix } from "../../base/ip.ts";
import { AddressPoolTable } from "./address_pool_table.ts";
import type { Database } from "./database.ts";

/** Fresh addresses that are left when the next block is asked for. */
const RESERVE = 128;

/** Refills the pools of one database. */
export class AddressRefill {
  readonly #database: Database;
  readonly #running = new Map<string, Promise<boolean>>();

  constructor(database: Database) {
    this.#database = database;
  }

  /** Waits for the next block; false when a pool has no further addresses. */
  async now(pools: readonly IpPrefix[], excluded: readonly IpAddress[]): Promise<boolean> {
    const results = await Promise.all(pools.map((pool) => this.#refill(pool, excluded)));
    return results.every(Boolean);
  }

  /** Gets the next block meanwhile, if few addresses are left. */
  ahead(
    pools: readonly IpPrefix[],
    { left, excluded }: { readonly left: number; readonly excluded: readonly IpAddress[] },
  ): void {
    // Whoever finds nothing waits for a refill and learns of its error.
    if (left <= RESERVE) void this.now(pools, excluded).catch(() => undefined);
  }

  /** Resolves when no refill is under way. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#running.values());
  }

  #refill(prefix: IpPrefix, excluded: readonly IpAddress[]): Promise<boolean> {
    const pool = formatPrefix(prefix);
    const running = this.#running.get(pool) ??
      this.#database.writer.transaction().execute((tx) =>
        new AddressPoolTable(tx, { database: this.#database.kind, pool, prefix, excluded }).refill()
      ).finally(() => this.#running.delete(pool));
    this.#running.set(pool, running);
    return running;
  }
}
