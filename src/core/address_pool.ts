/**
 * The client addresses of one prefix, as host indexes: which are leased, which are reserved for somebody, and the next free
 * one without searching, whatever the pool's size.
 */

import { type IpAddress, ipBits, type IpPrefix, prefixContains } from "../base/ip.ts";

/** The largest host index: host parts stay below 2^32, so that an index is an exact number. */
const MAX_INDEX = 2 ** 32 - 1;

/** The host index of the relay's own address. */
const GATEWAY_INDEX = 1;

/**
 * One pool. Addresses never used come first, in ascending order; only when there are none left is one handed out that
 * somebody had before. A free index is below `#fresh` and in `#freed`, or it is at or above `#fresh`.
 */
export class AddressPool {
  readonly prefix: IpPrefix;
  readonly #last: number;
  readonly #owners = new Map<number, string>();
  #reservedFor: ReadonlyMap<number, ReadonlySet<string>> = new Map();
  readonly #freed = new IndexStack();
  #fresh = GATEWAY_INDEX + 1;

  /** Throws `RangeError` for a prefix that has no room for a gateway and a client. */
  constructor(prefix: IpPrefix) {
    const hostBits = ipBits(prefix.version) - prefix.length;
    // The highest address of an IPv4 network is its broadcast address; IPv6 has none.
    const highest = (1n << BigInt(hostBits)) - (prefix.version === 4 ? 2n : 1n);
    this.prefix = prefix;
    this.#last = highest > BigInt(MAX_INDEX) ? MAX_INDEX : Number(highest);
    if (this.#last <= GATEWAY_INDEX) {
      throw new RangeError(
        `Cannot make a pool of an IPv${prefix.version} /${prefix.length}: it has no room for a client`,
      );
    }
  }

  /** How many clients fit. */
  get size(): number {
    return this.#last - GATEWAY_INDEX;
  }

  /** How many addresses are leased. */
  get leased(): number {
    return this.#owners.size;
  }

  /** How many addresses are reserved. */
  get reserved(): number {
    return this.#reservedFor.size;
  }

  /** The relay's own address. */
  get gateway(): IpAddress {
    return this.addressAt(GATEWAY_INDEX);
  }

  /** The address of a host index. */
  addressAt(index: number): IpAddress {
    return { version: this.prefix.version, value: this.prefix.first + BigInt(index) };
  }

  /** The host index of a client address; `undefined` for any other address. */
  indexOf(address: IpAddress): number | undefined {
    if (!prefixContains(this.prefix, address)) return undefined;
    const offset = address.value - this.prefix.first;
    return offset > BigInt(GATEWAY_INDEX) && offset <= BigInt(this.#last) ? Number(offset) : undefined;
  }

  /** Whether an identity may have an index, leased or not: it is reserved for nobody, or for this one too. */
  mayHave(identity: string, index: number): boolean {
    return this.#reservedFor.get(index)?.has(identity) ?? true;
  }

  /** Whether an index is leased. */
  isTaken(index: number): boolean {
    return this.#owners.has(index);
  }

  /** The index that {@linkcode take} would hand to anybody now; `preferred` if that is free. `undefined`: none left. */
  findFree(preferred?: number): number | undefined {
    if (preferred !== undefined && this.#isOpen(preferred)) return preferred;
    // Each leased or reserved index is stepped over once in the life of the pool.
    while (this.#fresh <= this.#last && !this.#isUnclaimed(this.#fresh)) this.#fresh++;
    return this.#fresh <= this.#last ? this.#fresh : this.#freed.top;
  }

  /** Leases a free index. */
  take(index: number, identity: string): void {
    this.#owners.set(index, identity);
    this.#freed.delete(index);
  }

  /** Ends the lease of an index. */
  free(index: number): void {
    this.#owners.delete(index);
    this.#offer(index);
  }

  /** Replaces all reservations: host index to those who may have it. Leases stay as they are. */
  setReservations(reservedFor: ReadonlyMap<number, ReadonlySet<string>>): void {
    const before = this.#reservedFor;
    this.#reservedFor = reservedFor;
    for (const index of reservedFor.keys()) this.#freed.delete(index);
    for (const index of before.keys()) this.#offer(index);
  }

  #offer(index: number): void {
    if (index < this.#fresh && this.#isUnclaimed(index)) this.#freed.add(index);
  }

  #isOpen(index: number): boolean {
    return index > GATEWAY_INDEX && index <= this.#last && this.#isUnclaimed(index);
  }

  #isUnclaimed(index: number): boolean {
    return !this.#owners.has(index) && !this.#reservedFor.has(index);
  }
}

/** A set of numbers of which any can be removed, and some one be named, in constant time. */
class IndexStack {
  readonly #items: number[] = [];
  readonly #positions = new Map<number, number>();

  get top(): number | undefined {
    return this.#items.at(-1);
  }

  add(index: number): void {
    if (this.#positions.has(index)) return;
    this.#positions.set(index, this.#items.length);
    this.#items.push(index);
  }

  delete(index: number): void {
    const position = this.#positions.get(index);
    if (position === undefined) return;
    this.#positions.delete(index);
    const last = this.#items.pop()!;
    if (last === index) return;
    this.#items[position] = last;
    this.#positions.set(last, position);
  }
}
