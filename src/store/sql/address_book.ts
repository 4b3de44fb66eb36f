/** Who has which tunnel addresses, shared by all controllers: one allocation a client, each address given once. */

import type { Transaction } from "kysely";
import { GinnelError } from "../../base/errors.ts";
import {
  formatPrefix,
  type IpAddress,
  type IpPrefix,
  type IpVersion,
  parseIp,
  parsePrefix,
} from "../../base/ip.ts";
import type { Page } from "../../core/network/listing.ts";
import type {
  AddressAllocation,
  AllocationOptions,
  AllocationResult,
  AllocationStats,
  Notice,
} from "../../control/store.ts";
import { AddressPool } from "../../core/address_pool.ts";
import { AddressPoolTable, freeAddresses } from "./address_pool_table.ts";
import { AddressRefill } from "./address_refill.ts";
import { allocateAtOnce, type ShortcutPool } from "./address_shortcut.ts";
import type { ChangeWatch } from "./change_watch.ts";
import { fromCursor, toCursor } from "./cursor.ts";
import { type Database, isGivenUp, isUniqueViolation } from "./database.ts";
import { toJson, toText, toTime } from "./json_text.ts";
import type { Tables } from "./schema.ts";

/** Attempts of one allocation; each failed one means that another allocation succeeded. */
const MAX_ATTEMPTS = 50;

/** Most items of a page. */
const MAX_LIMIT = 500;

/** Candidates looked at in one go when a full pool takes an address back. */
const CANDIDATES = 64;

/** The columns of the two families. */
const FAMILIES = ["virtual_ip", "virtual_ip6"] as const;
type Family = typeof FAMILIES[number];
type Row = Tables["ipam_allocations"];

/** What the book needs besides its database. */
export interface AddressBookOptions {
  readonly now: () => number;
  /** Hears whose addresses are no longer their own. */
  readonly watch: ChangeWatch;
}

/** The tables of addresses. */
export class AddressBook {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #watch: ChangeWatch;
  readonly #refill: AddressRefill;

  constructor(database: Database, { now, watch }: AddressBookOptions) {
    this.#database = database;
    this.#now = now;
    this.#watch = watch;
    this.#refill = new AddressRefill(database);
  }

  /** Resolves when nothing is under way that nobody waits for. */
  settled(): Promise<void> {
    return this.#refill.settled();
  }

  /** The client's addresses, new where it has none. */
  async allocate(clientId: string, options: AllocationOptions): Promise<AllocationResult> {
    const client = toText(clientId);
    const pools = readPools(options);
    const usual = await this.#allocateUsually(client, { options, pools });
    if (usual !== undefined) {
      return { ok: true, allocation: toAllocation(usual.row), isNew: usual.isNew, reclaimed: null };
    }
    for (let attempt = 1;; attempt++) {
      try {
        const database = this.#database;
        return await this.#watch.transact((tx, announce) =>
          new Allocator(tx, { database, client, options, pools, announce }).run()
        );
      } catch (error) {
        const isLost = error instanceof LostRace || isUniqueViolation(error) || isGivenUp(error);
        if (!isLost || attempt >= MAX_ATTEMPTS) throw error;
        if (isUniqueViolation(error)) await this.#forgetTaken();
      }
    }
  }

  async of(clientId: string): Promise<AddressAllocation | undefined> {
    const row = await this.#database.reader.selectFrom("ipam_allocations").selectAll()
      .where("client_id", "=", toText(clientId)).executeTakeFirst();
    return row && toAllocation(row);
  }

  async refresh(clientId: string, now: number): Promise<boolean> {
    const row = await this.#database.writer.updateTable("ipam_allocations").set({ last_seen_at: toTime(now) })
      .where("client_id", "=", toText(clientId)).returning("client_id").executeTakeFirst();
    return row !== undefined;
  }

  release(clientId: string): Promise<boolean> {
    return this.#watch.transact(async (tx, announce) => {
      const row = await tx.deleteFrom("ipam_allocations").where("client_id", "=", toText(clientId))
        .returningAll().executeTakeFirst();
      if (row === undefined) return false;
      announce({ type: "released", clientId: row.client_id });
      await freeAddresses(tx, { addresses: addressesOf(row), now: this.#now() });
      return true;
    });
  }

  /** A page, by client. */
  async list(query: { readonly limit: number; readonly cursor?: string }): Promise<Page<AddressAllocation>> {
    const table = this.#database.reader.selectFrom("ipam_allocations");
    const { total } = await table.select((eb) => eb.fn.countAll().as("total")).executeTakeFirstOrThrow();
    const limit = Math.min(Math.max(Math.trunc(query.limit), 1), MAX_LIMIT);
    let page = table.selectAll().orderBy("client_id").limit(limit + 1);
    if (query.cursor !== undefined) {
      page = page.where("client_id", ">", fromCursor(query.cursor, [""] as const)[0]);
    }
    const rows = await page.execute();
    const items = rows.slice(0, limit).map(toAllocation);
    const last = items.at(-1);
    return {
      items,
      cursor: rows.length > limit && last !== undefined ? toCursor([last.clientId]) : null,
      total: Number(total),
    };
  }

  async stats(): Promise<AllocationStats> {
    const { allocated, oldest } = await this.#database.reader.selectFrom("ipam_allocations")
      .select((eb) => [eb.fn.countAll().as("allocated"), eb.fn.min("last_seen_at").as("oldest")])
      .executeTakeFirstOrThrow();
    return { allocated: Number(allocated), oldestSeenAt: oldest };
  }

  /** The common cases, in one statement: the client is known, or, on PostgreSQL, takes the next free address. */
  async #allocateUsually(
    client: string,
    { options, pools }: { readonly options: AllocationOptions; readonly pools: Pools },
  ): Promise<{ readonly row: Row; readonly isNew: boolean } | undefined> {
    const hasPool = pools.virtual_ip !== undefined || pools.virtual_ip6 !== undefined;
    if (this.#database.kind === "sqlite" || pools.reserved.length > 0 || !hasPool) {
      const row = await this.#refresh(client, options);
      return row !== undefined && isRight(row, pools) ? { row, isNew: false } : undefined;
    }
    const { virtual_ip: ipv4, virtual_ip6: ipv6, excluded } = pools;
    const prefixes = [ipv4, ipv6].filter((prefix) => prefix !== undefined);
    const shortcut = {
      client,
      ipv4: shortcutPool(ipv4, excluded),
      ipv6: shortcutPool(ipv6, excluded),
      now: toTime(options.now),
      metadata: options.metadata === undefined ? undefined : toJson(options.metadata),
    };
    try {
      let found = await allocateAtOnce(this.#database.writer, shortcut);
      if (found === undefined && await this.#refill.now(prefixes, excluded)) {
        found = await allocateAtOnce(this.#database.writer, shortcut);
      }
      if (found?.left !== undefined) this.#refill.ahead(prefixes, { left: found.left, excluded });
      return found !== undefined && isRight(found.row, pools) ? found : undefined;
    } catch (error) {
      // Somebody else asked for the same client, or overlapping pools left an address free that somebody has.
      if (!isUniqueViolation(error) && !isGivenUp(error)) throw error;
      return undefined;
    }
  }

  /** The client was seen. */
  #refresh(client: string, { now, metadata }: AllocationOptions): Promise<Row | undefined> {
    return this.#database.writer.updateTable("ipam_allocations")
      .set({ last_seen_at: toTime(now), ...(metadata === undefined ? {} : { metadata: toJson(metadata) }) })
      .where("client_id", "=", client).returningAll().executeTakeFirst();
  }

  /** Takes addresses that somebody has out of the free ones, where overlapping pools left them. */
  async #forgetTaken(): Promise<void> {
    for (const family of FAMILIES) {
      await this.#database.writer.deleteFrom("ipam_free").where(
        "address",
        "in",
        (eb) =>
          eb.selectFrom("ipam_allocations").select(family).where(family, "is not", null).$castTo<
            { a: string }
          >(),
      ).execute();
    }
  }
}

/** One attempt at one allocation, in one transaction. */
class Allocator {
  readonly #tx: Transaction<Tables>;
  readonly #isPostgres: boolean;
  readonly #client: string;
  readonly #options: AllocationOptions;
  readonly #pools: Record<Family, AddressPoolTable | undefined>;
  readonly #reserved: readonly string[];
  readonly #announce: (notice: Notice) => void;

  constructor(
    tx: Transaction<Tables>,
    { database, client, options, pools, announce }: {
      readonly database: Database;
      readonly announce: (notice: Notice) => void;
      readonly client: string;
      readonly options: AllocationOptions;
      readonly pools: Pools;
    },
  ) {
    this.#tx = tx;
    this.#isPostgres = database.kind === "postgres";
    this.#client = client;
    this.#options = options;
    this.#reserved = options.reserved ?? [];
    this.#announce = announce;
    const table = (family: Family) => {
      const prefix = pools[family];
      if (prefix === undefined) return undefined;
      return new AddressPoolTable(tx, {
        database: database.kind,
        pool: formatPrefix(prefix),
        prefix,
        excluded: pools.excluded,
      });
    };
    this.#pools = { virtual_ip: table("virtual_ip"), virtual_ip6: table("virtual_ip6") };
  }

  /** Throws {@linkcode LostRace} when another came first: nothing is kept, and a second attempt is right. */
  async run(): Promise<AllocationResult> {
    const query = this.#tx.selectFrom("ipam_allocations").selectAll().where("client_id", "=", this.#client);
    const row = await (this.#isPostgres ? query.forUpdate() : query).executeTakeFirst();
    const chosen: Record<Family, string | null> = { virtual_ip: null, virtual_ip6: null };
    const missing: Family[] = [];
    for (const family of FAMILIES) {
      if (this.#pools[family] === undefined) continue;
      chosen[family] = await this.#choose(family, { row, chosen }) ?? null;
      if (chosen[family] === null) missing.push(family);
    }
    let reclaimed: string | null = null;
    if (missing.length > 0) {
      // Another request of the same client may have been served meanwhile.
      if (row === undefined && await query.executeTakeFirst() !== undefined) throw new LostRace();
      const victim = await this.#findReclaimable(missing);
      if (victim === undefined) return await this.#giveBack(chosen, row);
      await this.#takeFrom(victim, missing);
      for (const family of missing) chosen[family] = victim[family];
      reclaimed = victim.client_id;
    }
    const allocation = await this.#write(chosen, row);
    return { ok: true, allocation: toAllocation(allocation), isNew: row === undefined, reclaimed };
  }

  /** What the client has, unless a reservation names another that is free; or a free one. */
  async #choose(
    family: Family,
    { row, chosen }: {
      readonly row: Row | undefined;
      readonly chosen: Readonly<Record<Family, string | null>>;
    },
  ): Promise<string | undefined> {
    const pool = this.#pools[family]!;
    const current = pool.indexOf(row?.[family] ?? null);
    const reserved = this.#reserved.map((address) => pool.indexOf(address)).filter((index) =>
      index !== undefined
    );
    if (current !== undefined && (reserved.length === 0 || reserved.includes(current))) {
      return pool.addressAt(current);
    }
    for (const index of reserved) {
      const address = pool.addressAt(index);
      const owner = await this.#tx.selectFrom("ipam_allocations").select("client_id").where(
        family,
        "=",
        address,
      )
        .executeTakeFirst();
      if (owner !== undefined) continue;
      await pool.takeExactly(index);
      return address;
    }
    if (current !== undefined) return pool.addressAt(current);
    // The same host part in both families, where that is free.
    const twin = family === "virtual_ip6" ? this.#pools.virtual_ip?.indexOf(chosen.virtual_ip) : undefined;
    if (twin !== undefined) {
      const address = pool.addressAt(twin);
      if (pool.indexOf(address) === twin && await pool.takeExactly(twin)) return address;
    }
    const index = await pool.take();
    return index === undefined ? undefined : pool.addressAt(index);
  }

  /** The one absent longest, and for long enough, whose addresses serve. */
  async #findReclaimable(missing: readonly Family[]): Promise<Row | undefined> {
    let after: Row | undefined;
    for (;;) {
      let query = this.#tx.selectFrom("ipam_allocations").selectAll()
        .where("last_seen_at", "<", toTime(this.#options.reclaimBefore)).where(
          "client_id",
          "<>",
          this.#client,
        )
        .orderBy("last_seen_at").orderBy("client_id").limit(CANDIDATES);
      if (after !== undefined) {
        const { last_seen_at, client_id } = after;
        query = query.where((eb) =>
          eb(eb.refTuple("last_seen_at", "client_id"), ">", eb.tuple(last_seen_at, client_id))
        );
      }
      const rows = await query.execute();
      const found = rows.find((row) =>
        missing.every((family) => this.#pools[family]?.indexOf(row[family]) !== undefined)
      );
      if (found !== undefined || rows.length < CANDIDATES) return found;
      after = rows.at(-1);
    }
  }

  /** Ends another's allocation, unless it was seen again meanwhile. */
  async #takeFrom(victim: Row, missing: readonly Family[]): Promise<void> {
    const gone = await this.#tx.deleteFrom("ipam_allocations").where("client_id", "=", victim.client_id)
      .where("last_seen_at", "<", toTime(this.#options.reclaimBefore)).returning("client_id")
      .executeTakeFirst();
    if (gone === undefined) throw new LostRace();
    this.#announce({ type: "released", clientId: victim.client_id });
    const spare = FAMILIES.filter((family) => !missing.includes(family)).map((family) => victim[family])
      .filter((address) => address !== null);
    await freeAddresses(this.#tx, { addresses: spare, now: this.#options.now });
  }

  async #giveBack(
    chosen: Readonly<Record<Family, string | null>>,
    row: Row | undefined,
  ): Promise<AllocationResult> {
    const held = row === undefined ? [] : addressesOf(row);
    const addresses = Object.values(chosen).filter((address) => address !== null && !held.includes(address));
    await freeAddresses(this.#tx, {
      addresses: addresses as string[],
      now: this.#options.now,
    });
    return { ok: false, fault: "exhausted" };
  }

  async #write(chosen: Readonly<Record<Family, string | null>>, row: Row | undefined): Promise<Row> {
    const { now, metadata } = this.#options;
    const seen = toTime(now);
    if (row === undefined) {
      return await this.#tx.insertInto("ipam_allocations").values({
        client_id: this.#client,
        ...chosen,
        allocated_at: seen,
        last_seen_at: seen,
        metadata: toJson(metadata ?? {}),
      }).returningAll().executeTakeFirstOrThrow();
    }
    const written = await this.#tx.updateTable("ipam_allocations").set({
      ...chosen,
      last_seen_at: seen,
      ...(metadata === undefined ? {} : { metadata: toJson(metadata) }),
    }).where("client_id", "=", this.#client).returningAll().executeTakeFirstOrThrow();
    const left = addressesOf(row).filter((address) => !addressesOf(written).includes(address));
    await freeAddresses(this.#tx, { addresses: left, now });
    // Relays that know it by another address must not go on with that.
    if (left.length > 0) this.#announce({ type: "released", clientId: this.#client });
    return written;
  }
}

/** The pools and restrictions of a request, parsed. */
interface Pools extends Record<Family, IpPrefix | undefined> {
  readonly excluded: readonly IpAddress[];
  readonly reserved: readonly IpAddress[];
}

/** Another allocation came first. */
class LostRace extends GinnelError {
  constructor() {
    super("ERR_ADDRESSES_BUSY", "Cannot allocate an address: too many others do at once", {
      hint: "Try again",
    });
  }
}

function readPools({ ipv4, ipv6, reserved = [], excluded = [] }: AllocationOptions): Pools {
  return {
    virtual_ip: readPrefix(ipv4, 4),
    virtual_ip6: readPrefix(ipv6, 6),
    reserved: reserved.map(readAddress),
    excluded: excluded.map(readAddress),
  };
}

function readPrefix(text: string | null, version: IpVersion): IpPrefix | undefined {
  if (text === null) return undefined;
  const prefix = parsePrefix(text);
  if (prefix?.version !== version) throw new RangeError(`Cannot use ${text} as an IPv${version} pool`);
  return prefix;
}

function readAddress(text: string): IpAddress {
  const address = parseIp(text);
  if (address === undefined) {
    throw new RangeError(`Cannot reserve ${JSON.stringify(text)}: it is no IP address`);
  }
  return address;
}

/** Whether an allocation is what the client would be given now. */
function isRight(row: Row, pools: Pools): boolean {
  return FAMILIES.every((family) => {
    const prefix = pools[family];
    const address = row[family] === null ? undefined : parseIp(row[family]);
    if (prefix === undefined || address === undefined) return prefix === undefined && address === undefined;
    const range = new AddressPool(prefix);
    const isSame = (other: IpAddress) => other.version === address.version && other.value === address.value;
    const reserved = pools.reserved.filter((other) => range.indexOf(other) !== undefined);
    return range.indexOf(address) !== undefined && !pools.excluded.some(isSame) &&
      (reserved.length === 0 || reserved.some(isSame));
  });
}

function shortcutPool(
  prefix: IpPrefix | undefined,
  excluded: readonly IpAddress[],
): ShortcutPool | undefined {
  if (prefix === undefined) return undefined;
  const range = new AddressPool(prefix);
  const indexes = excluded.map((address) => range.indexOf(address)).filter((index) => index !== undefined);
  return { pool: formatPrefix(prefix), last: range.size + 1, excluded: indexes };
}

function addressesOf(row: Row): string[] {
  return FAMILIES.map((family) => row[family]).filter((address) => address !== null);
}

function toAllocation(row: Row): AddressAllocation {
  return {
    clientId: row.client_id,
    virtualIp: row.virtual_ip,
    virtualIp6: row.virtual_ip6,
    allocatedAt: row.allocated_at,
    lastSeenAt: row.last_seen_at,
    metadata: JSON.parse(row.metadata) as AddressAllocation["metadata"],
  };
}
