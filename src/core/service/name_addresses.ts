/**
 * Numbers that an agent gives to intercepted host names: each stands for two virtual addresses here, so that what arrives
 * at them can be told to a connector by the name that was asked for.
 */

import { NAME_INDEXES, nextIndex, pickIndex } from "./virtual_address.ts";

/** Milliseconds for which a name keeps its number after the last answer or flow: longer than anybody should remember it. */
export const NAME_LIFE_MS = 3_600_000;

/** Names at once: fewer than there are numbers, so that a free one is found soon. */
const MAX_NAMES = 24_576;

/** Names and their numbers, both ways. */
export class NameAddresses {
  /** The least recently used first. */
  readonly #byHost = new Map<string, Entry>();
  readonly #byIndex = new Map<number, string>();
  readonly #max: number;

  constructor({ max = MAX_NAMES }: { readonly max?: number } = {}) {
    this.#max = max;
  }

  /**
   * The number of a host name in its canonical form, given to it now if it has none; undefined when as many names as there
   * may be were used within the last hour. `now` in milliseconds.
   */
  indexOf(host: string, now: number): number | undefined {
    const known = this.#byHost.get(host);
    if (known !== undefined) {
      this.#use(host, { entry: known, now });
      return known.index;
    }
    if (this.#byHost.size >= this.#max && !this.#dropOldest(now)) return undefined;
    let index = pickIndex(host, NAME_INDEXES);
    while (this.#byIndex.has(index)) index = nextIndex(index, NAME_INDEXES);
    this.#byHost.set(host, { index, usedAt: now });
    this.#byIndex.set(index, host);
    return index;
  }

  /** Whose number this is; with `now` it counts as used, as for a flow. */
  hostOf(index: number, now?: number): string | undefined {
    const host = this.#byIndex.get(index);
    if (host !== undefined && now !== undefined) {
      this.#use(host, { entry: this.#byHost.get(host)!, now });
    }
    return host;
  }

  #use(host: string, { entry, now }: { readonly entry: Entry; readonly now: number }): void {
    // A clock set back shortens no life.
    entry.usedAt = Math.max(entry.usedAt, now);
    this.#byHost.delete(host);
    this.#byHost.set(host, entry);
  }

  #dropOldest(now: number): boolean {
    const oldest = this.#byHost.entries().next().value;
    if (oldest === undefined || now - oldest[1].usedAt < NAME_LIFE_MS) return false;
    this.#byHost.delete(oldest[0]);
    this.#byIndex.delete(oldest[1].index);
    return true;
  }
}

interface Entry {
  readonly index: number;
  usedAt: number;
}
