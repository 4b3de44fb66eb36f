/**
 * Which addresses a client's DNS answers gave for the names its `fqdn` rules ask about. One table per client, so
 * that no client's answers can open anything for another. Bounded; what was learned longest ago gives way.
 */

import { type IpAddress, ipFromWords, ipWords } from "../../base/ip.ts";
import { NameMatcher } from "./name_matcher.ts";
import type { Destination } from "./prefix_set.ts";

/** What a DNS answer said. */
export interface DnsAnswer {
  /** The name asked for: lower case, no final dot. */
  readonly question: string;
  /** TTLs in seconds. */
  readonly addresses: readonly { readonly address: IpAddress; readonly ttl: number }[];
}

/** How much one table holds. At the defaults about 1 MB in the worst case. */
export interface FqdnLimits {
  /** Names with addresses; a wildcard lets a client ask for any number. */
  readonly maxNames: number;
  /** Addresses of one name. */
  readonly maxAddressesPerName: number;
}

const DEFAULT_LIMITS: FqdnLimits = { maxNames: 512, maxAddressesPerName: 32 };

/** Milliseconds an address lives at least: servers that balance load give TTL 0. */
const MIN_TTL = 5_000;

/** Milliseconds an address lives at most. */
const MAX_TTL = 86_400_000;

/** Milliseconds added to each TTL: the client gets the answer later than it passes here, and counts from then. */
const SLACK = 2_000;

/** Names, their addresses and when each runs out. */
export class FqdnTable {
  readonly #limits: FqdnLimits;
  #watched: NameMatcher;
  /** Ends by name, in the order of learning, and there by address. */
  readonly #names = new Map<string, Map<string, Learned>>();
  /** Names by address. */
  readonly #addresses = new Map<string, Set<string>>();
  #nextEnd = Infinity;

  constructor(patterns: readonly string[] = [], limits: Partial<FqdnLimits> = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#watched = new NameMatcher(patterns);
  }

  /** Sets the patterns that rules ask about; what was learned and is asked about no more is forgotten. */
  watch(patterns: readonly string[]): void {
    this.#watched = new NameMatcher(patterns);
    for (const name of this.#names.keys()) {
      if (!this.#watched.matches(name)) this.#forget(name);
    }
  }

  /** Tells whether a rule asks about a name. */
  isWatched(name: string): boolean {
    return this.#watched.matches(name);
  }

  /** Remembers an answer; tells whether it gave a name an address that it did not have. */
  learn({ question, addresses }: DnsAnswer, now: number): boolean {
    if (addresses.length === 0 || !this.isWatched(question)) return false;
    this.expire(now);
    const known = this.#names.get(question) ?? new Map<string, Learned>();
    // Put back at the end: the order tells what was learned longest ago.
    this.#names.delete(question);
    if (this.#names.size >= this.#limits.maxNames) {
      for (const oldest of this.#names.keys()) {
        this.#forget(oldest);
        break;
      }
    }
    this.#names.set(question, known);
    let isNew = false;
    for (const { address, ttl } of addresses) {
      const [dst0, dst1, dst2, dst3] = ipWords(address);
      const key = keyOf({ version: address.version, dst0, dst1, dst2, dst3 });
      const end = now + SLACK + Math.min(MAX_TTL, Math.max(MIN_TTL, ttl * 1000));
      const before = known.get(key);
      if (before === undefined) {
        if (known.size >= this.#limits.maxAddressesPerName) continue;
        isNew = true;
        const names = this.#addresses.get(key) ?? new Set();
        this.#addresses.set(key, names.add(question));
      }
      known.set(key, { address, end: Math.max(end, before?.end ?? 0) });
      this.#nextEnd = Math.min(this.#nextEnd, end);
    }
    return isNew;
  }

  /** The names that have this address right now. */
  namesOf(address: Destination, now: number): readonly string[] {
    if (this.#addresses.size === 0) return NO_NAMES;
    const key = keyOf(address);
    const names = this.#addresses.get(key);
    if (names === undefined) return NO_NAMES;
    return [...names].filter((name) => now < this.#names.get(name)!.get(key)!.end);
  }

  /** The addresses that names of these patterns have right now. */
  addressesOf(patterns: readonly string[], now: number): IpAddress[] {
    const matcher = new NameMatcher(patterns);
    const found = new Map<string, IpAddress>();
    for (const [name, addresses] of this.#names) {
      if (!matcher.matches(name)) continue;
      for (const [key, { address, end }] of addresses) if (now < end) found.set(key, address);
    }
    return [...found.values()];
  }

  /** Forgets what has run out; costs nothing while nothing has. */
  expire(now: number): void {
    if (now < this.#nextEnd) return;
    this.#nextEnd = Infinity;
    for (const [name, addresses] of this.#names) {
      for (const [key, { end }] of addresses) {
        if (now >= end) this.#forgetAddress(name, key);
        else this.#nextEnd = Math.min(this.#nextEnd, end);
      }
      if (addresses.size === 0) this.#names.delete(name);
    }
  }

  #forget(name: string): void {
    for (const key of this.#names.get(name)?.keys() ?? []) this.#forgetAddress(name, key);
    this.#names.delete(name);
  }

  #forgetAddress(name: string, key: string): void {
    this.#names.get(name)?.delete(key);
    const names = this.#addresses.get(key);
    names?.delete(name);
    if (names?.size === 0) this.#addresses.delete(key);
  }
}

const NO_NAMES: readonly string[] = [];

interface Learned {
  readonly address: IpAddress;
  readonly end: number;
}

function keyOf({ version, dst0, dst1, dst2, dst3 }: Destination): string {
  return `${version} ${ipFromWords(version, dst0, dst1, dst2, dst3).value}`;
}
