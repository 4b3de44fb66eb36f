/**
 * Which identity has which tunnel addresses: one lease an identity, kept while it is away, so that it comes back to the same
 * addresses. Only a full pool takes from the one that is away longest.
 */

import { formatIp, formatPrefix, type IpAddress, type IpPrefix, type IpVersion } from "../base/ip.ts";
import { AddressPool } from "./address_pool.ts";
import { AbsentList, LeaseEntry } from "./lease_entry.ts";

/** The addresses of one identity. */
export interface Lease {
  /** Its SPIFFE ID. */
  readonly identity: string;
  readonly ipv4: IpAddress | null;
  readonly ipv6: IpAddress | null;
  /** When it was first given, in milliseconds since the epoch. */
  readonly since: number;
  /** When its identity last came or went, in milliseconds since the epoch. */
  readonly lastSeen: number;
}

/** A lease, or why there is none. */
export type Allocation =
  | {
    readonly ok: true;
    readonly lease: Lease;
    /** The absent identity that lost its lease to this one. */
    readonly reclaimed?: string;
  }
  | { readonly ok: false; readonly reason: "exhausted" };

/** How one pool is used, in addresses. */
export interface PoolStats {
  readonly version: IpVersion;
  /** Addresses for clients. */
  readonly size: number;
  readonly leased: number;
  /** Leased to identities that are connected. */
  readonly held: number;
  readonly reserved: number;
}

/** Fixed addresses by SPIFFE ID. Several identities may share one: the first to come has it. */
export type Reservations = ReadonlyMap<string, readonly IpAddress[]>;

/** What addresses there are and who has a right to them. */
export interface IpamOptions {
  /** Pool of IPv4 addresses, or null for none; its first host address is the relay's own. */
  readonly ipv4: IpPrefix | null;
  /** Pool of IPv6 addresses, or null for none; its first 2^32 addresses are used. */
  readonly ipv6: IpPrefix | null;
  readonly reservations: Reservations;
  /** Milliseconds that an absent identity keeps its lease even in a full pool. */
  readonly leaseTime: number;
}

/** Hands out tunnel addresses. Throws `RangeError` for pools or reservations that cannot be. */
export class Ipam {
  readonly #pools: Readonly<Record<IpVersion, AddressPool | undefined>>;
  readonly #leaseTime: number;
  #reservations: Reservations = new Map();
  readonly #entries = new Map<string, LeaseEntry>();
  /** Connections of each identity that is here. It outlives the lease, so that every hold meets its unhold. */
  readonly #holds = new Map<string, number>();
  /** Those a full pool may take from, absent longest first: neither connected nor with a reservation. */
  readonly #absent = new AbsentList();
  #filed = 0;

  constructor(options: IpamOptions) {
    const { ipv4, ipv6, reservations, leaseTime } = options;
    this.#pools = {
      4: ipv4 === null ? undefined : new AddressPool(ipv4),
      6: ipv6 === null ? undefined : new AddressPool(ipv6),
    };
    this.#leaseTime = leaseTime;
    this.setReservations(reservations);
  }

  /** The relay's own address in the pool of a version. */
  gateway(version: IpVersion): IpAddress | null {
    return this.#pools[version]?.gateway ?? null;
  }

  /**
   * Takes over leases of an earlier run, before any is allocated. Of two that claim one address the one seen last has
   * it. Returns those of which no address could be kept.
   */
  restore(leases: Iterable<Lease>): Lease[] {
    const lost: Lease[] = [];
    const kept: LeaseEntry[] = [];
    for (const lease of [...leases].sort((a, b) => b.lastSeen - a.lastSeen)) {
      const entry = this.#entries.has(lease.identity) ? undefined : this.#readLease(lease);
      if (entry === undefined) {
        lost.push(lease);
      } else {
        this.#occupy(entry);
        kept.push(entry);
      }
    }
    for (const entry of kept.reverse()) this.#file(entry);
    return lost;
  }

  /** Returns the identity's lease, new where it has none. */
  allocate(identity: string, now: number): Allocation {
    const entry = this.#entries.get(identity);
    const wanted = this.#choose(identity, entry);
    let reclaimed: LeaseEntry | undefined;
    if (wanted.missing.length > 0) {
      reclaimed = this.#findReclaimable(wanted.missing, { now, except: identity });
      if (reclaimed === undefined) return { ok: false, reason: "exhausted" };
      for (const version of wanted.missing) wanted[version] = reclaimed[version];
      this.#remove(reclaimed);
    }
    if (entry !== undefined) this.#vacate(entry);
    const { 4: four, 6: six } = wanted;
    const renewed = new LeaseEntry({ identity, 4: four, 6: six, since: entry?.since ?? now, lastSeen: now });
    this.#occupy(renewed);
    this.#file(renewed);
    const lease = this.#toLease(renewed);
    return reclaimed === undefined ? { ok: true, lease } : { ok: true, lease, reclaimed: reclaimed.identity };
  }

  /** One more connection of the identity is here: its lease is not taken away. */
  hold(identity: string): void {
    this.#holds.set(identity, (this.#holds.get(identity) ?? 0) + 1);
    const entry = this.#entries.get(identity);
    if (entry !== undefined) this.#absent.remove(entry);
  }

  /** One connection of the identity is gone; with the last one its absence begins. */
  unhold(identity: string, now: number): void {
    const holds = this.#holds.get(identity);
    if (holds === undefined) return;
    if (holds > 1) {
      this.#holds.set(identity, holds - 1);
      return;
    }
    this.#holds.delete(identity);
    const entry = this.#entries.get(identity);
    if (entry === undefined) return;
    entry.lastSeen = now;
    this.#file(entry);
  }

  /** Frees an identity's addresses, also of one that is connected: its owner ends that connection. */
  release(identity: string): boolean {
    const entry = this.#entries.get(identity);
    if (entry === undefined) return false;
    this.#remove(entry);
    return true;
  }

  /**
   * Replaces all reservations. Returns the identities whose lease was released: those on an address that is now
   * another's, and those that are not on the address now reserved for them.
   */
  setReservations(reservations: Reservations): string[] {
    const indexes = this.#readReservations(reservations);
    this.#reservations = reservations;
    this.#pools[4]?.setReservations(indexes[4]);
    this.#pools[6]?.setReservations(indexes[6]);
    const released: string[] = [];
    for (const isOut of [this.#isIntruder, this.#isAstray]) {
      for (const entry of this.#entries.values()) {
        if (!isOut.call(this, entry)) continue;
        this.#remove(entry);
        released.push(entry.identity);
      }
    }
    // Who got a reservation is taken from no longer, who lost it may be taken from again.
    const inOrder = [...this.#entries.values()].sort((a, b) => a.order - b.order);
    for (const entry of inOrder) this.#file(entry);
    return released;
  }

  /** The lease of an identity. */
  leaseOf(identity: string): Lease | undefined {
    const entry = this.#entries.get(identity);
    return entry === undefined ? undefined : this.#toLease(entry);
  }

  /** All leases. */
  *leases(): Generator<Lease> {
    for (const entry of this.#entries.values()) yield this.#toLease(entry);
  }

  /** How each pool is used. */
  stats(): PoolStats[] {
    return VERSIONS.flatMap((version) => {
      const pool = this.#pools[version];
      if (pool === undefined) return [];
      let held = 0;
      for (const identity of this.#holds.keys()) {
        if (this.#entries.get(identity)?.[version] !== undefined) held++;
      }
      const { size, leased, reserved } = pool;
      return [{ version, size, leased, held, reserved }];
    });
  }

  /** The indexes an identity is to have: what it has unless a reservation names another that is free. */
  #choose(identity: string, entry: LeaseEntry | undefined): Choice {
    const choice: Choice = { 4: undefined, 6: undefined, missing: [] };
    for (const version of VERSIONS) {
      const pool = this.#pools[version];
      if (pool === undefined) continue;
      const index = this.#freeReservation(version, { identity, index: entry?.[version] }) ??
        entry?.[version] ?? pool.findFree(version === 6 ? choice[4] : undefined);
      if (index === undefined) choice.missing.push(version);
      choice[version] = index;
    }
    return choice;
  }

  /** A free index reserved for an identity that is on none of its reserved ones. */
  #freeReservation(
    version: IpVersion,
    { identity, index: current }: { readonly identity: string; readonly index: number | undefined },
  ): number | undefined {
    const pool = this.#pools[version];
    const reserved = this.#reservations.get(identity);
    if (pool === undefined || reserved === undefined) return undefined;
    const indexes = reserved.map((address) => pool.indexOf(address)).filter((index) => index !== undefined);
    if (current !== undefined && indexes.includes(current)) return undefined;
    return indexes.find((index) => !pool.isTaken(index));
  }

  /** The one absent longest, and longer than the lease time, that has an address of each missing version. */
  #findReclaimable(
    missing: readonly IpVersion[],
    { now, except }: { readonly now: number; readonly except: string },
  ): LeaseEntry | undefined {
    for (let entry = this.#absent.first; entry !== undefined; entry = entry.next) {
      if (now - entry.lastSeen <= this.#leaseTime) return undefined;
      const found = entry;
      if (entry.identity !== except && missing.every((version) => found[version] !== undefined)) return entry;
    }
    return undefined;
  }

  /** Reads a stored lease: what of it fits and is free. */
  #readLease(lease: Lease): LeaseEntry | undefined {
    const { identity, since, lastSeen } = lease;
    const indexes = [lease.ipv4, lease.ipv6].map((address) => {
      const pool = address === null ? undefined : this.#pools[address.version];
      const index = address === null ? undefined : pool?.indexOf(address);
      if (pool === undefined || index === undefined) return undefined;
      return pool.mayHave(identity, index) && !pool.isTaken(index) ? index : undefined;
    });
    if (indexes.every((index) => index === undefined)) return undefined;
    const [four, six] = indexes;
    return new LeaseEntry({ identity, 4: four, 6: six, since, lastSeen });
  }

  #readReservations(reservations: Reservations): Record<IpVersion, Map<number, Set<string>>> {
    const indexes = { 4: new Map<number, Set<string>>(), 6: new Map<number, Set<string>>() };
    for (const [identity, addresses] of reservations) {
      for (const address of addresses) {
        const pool = this.#pools[address.version];
        const index = pool?.indexOf(address);
        if (pool === undefined || index === undefined) {
          const where = pool === undefined ? `an IPv${address.version} pool` : formatPrefix(pool.prefix);
          throw new RangeError(
            `Cannot reserve ${formatIp(address)} for ${identity}: it is no client address of ${where}`,
          );
        }
        const holders = indexes[address.version].get(index) ?? new Set();
        indexes[address.version].set(index, holders.add(identity));
      }
    }
    return indexes;
  }

  /** Is on an address that is reserved for others. */
  #isIntruder(entry: LeaseEntry): boolean {
    return VERSIONS.some((version) => {
      const index = entry[version];
      return index !== undefined && !this.#pools[version]!.mayHave(entry.identity, index);
    });
  }

  /** Could be on an address reserved for it, and is not. */
  #isAstray(entry: LeaseEntry): boolean {
    return VERSIONS.some((version) =>
      this.#freeReservation(version, { identity: entry.identity, index: entry[version] }) !== undefined
    );
  }

  #occupy(entry: LeaseEntry): void {
    for (const version of VERSIONS) {
      const index = entry[version];
      if (index !== undefined) this.#pools[version]!.take(index, entry.identity);
    }
    this.#entries.set(entry.identity, entry);
  }

  #vacate(entry: LeaseEntry): void {
    this.#absent.remove(entry);
    for (const version of VERSIONS) {
      const index = entry[version];
      if (index !== undefined) this.#pools[version]!.free(index);
    }
  }

  #remove(entry: LeaseEntry): void {
    this.#vacate(entry);
    this.#entries.delete(entry.identity);
  }

  /** Puts an entry where its state belongs: last among the absent, or not among them. */
  #file(entry: LeaseEntry): void {
    this.#absent.remove(entry);
    entry.order = ++this.#filed;
    if (!this.#holds.has(entry.identity) && !this.#reservations.has(entry.identity)) {
      this.#absent.append(entry);
    }
  }

  #toLease(entry: LeaseEntry): Lease {
    const { identity, since, lastSeen } = entry;
    return { identity, ipv4: this.#addressOf(entry, 4), ipv6: this.#addressOf(entry, 6), since, lastSeen };
  }

  #addressOf(entry: LeaseEntry, version: IpVersion): IpAddress | null {
    const index = entry[version];
    return index === undefined ? null : this.#pools[version]!.addressAt(index);
  }
}

const VERSIONS: readonly IpVersion[] = [4, 6];

/** Host indexes for a lease, and the versions of which none is left. */
interface Choice {
  4: number | undefined;
  6: number | undefined;
  readonly missing: IpVersion[];
}
