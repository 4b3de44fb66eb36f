/**
 * Remembers which tokens were used until they expire. It never forgets early: a full cache refuses.
 */

/** What the cache says of a token: only "fresh" may pass. */
export type ReplayVerdict = "fresh" | "replayed" | "expired" | "full";

/** Bounds of a cache. */
export interface ReplayCacheOptions {
  /**
   * Most tokens remembered at once. A token costs about 180 bytes, so the default, 262,144, is worth
   * 47 MB at most; it admits 2,700 tokens a second even if each is remembered for the longest time, 95 s.
   */
  readonly capacity?: number;
  /** Most tokens of one owner, so that no identity can shut out the others; default a quarter of the capacity. */
  readonly capacityPerOwner?: number;
}

/** One use of a token. */
export interface TokenUse {
  /** Whose token: owners cannot collide with one another. */
  readonly owner: string;
  readonly id: string;
  /** When the token stops being acceptable, milliseconds since the epoch. */
  readonly expiresAt: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** Tokens are forgotten together in spans of this many milliseconds, so that expiry needs no search. */
const SPAN_MILLISECONDS = 5_000;

const DEFAULT_CAPACITY = 262_144;

/** A bounded memory of used tokens, ordered by expiry. */
export class ReplayCache {
  readonly #capacity: number;
  readonly #capacityPerOwner: number;
  /** End of span -> owner -> ids. */
  readonly #spans = new Map<number, Map<string, Set<string>>>();
  readonly #countByOwner = new Map<string, number>();
  #size = 0;
  /** Spans up to this time were forgotten: a token that expires before it cannot be judged any more. */
  #forgottenUntil = 0;

  constructor(options: ReplayCacheOptions = {}) {
    this.#capacity = options.capacity ?? DEFAULT_CAPACITY;
    this.#capacityPerOwner = options.capacityPerOwner ?? Math.ceil(this.#capacity / 4);
  }

  /** Number of tokens remembered. */
  get size(): number {
    return this.#size;
  }

  /** Records a use; anything but "fresh" means that nothing was recorded and the token must be refused. */
  use(token: TokenUse): ReplayVerdict {
    const { owner, id, expiresAt, now } = token;
    this.#forget(now);
    const span = Math.ceil(expiresAt / SPAN_MILLISECONDS) * SPAN_MILLISECONDS;
    // A clock that was set back must not revive a token that was forgotten already.
    if (expiresAt <= now || span <= this.#forgottenUntil) return "expired";
    for (const owners of this.#spans.values()) if (owners.get(owner)?.has(id)) return "replayed";
    const count = this.#countByOwner.get(owner) ?? 0;
    if (this.#size >= this.#capacity || count >= this.#capacityPerOwner) return "full";
    this.#remember(span, { owner, id });
    this.#countByOwner.set(owner, count + 1);
    this.#size++;
    return "fresh";
  }

  #remember(span: number, token: { readonly owner: string; readonly id: string }): void {
    let owners = this.#spans.get(span);
    if (owners === undefined) this.#spans.set(span, owners = new Map());
    const ids = owners.get(token.owner);
    if (ids === undefined) owners.set(token.owner, new Set([token.id]));
    else ids.add(token.id);
  }

  #forget(now: number): void {
    if (now < this.#forgottenUntil + SPAN_MILLISECONDS) return;
    this.#forgottenUntil = Math.floor(now / SPAN_MILLISECONDS) * SPAN_MILLISECONDS;
    for (const [span, owners] of this.#spans) {
      if (span > this.#forgottenUntil) continue;
      this.#spans.delete(span);
      for (const [owner, ids] of owners) this.#release(owner, ids.size);
    }
  }

  #release(owner: string, released: number): void {
    this.#size -= released;
    const left = (this.#countByOwner.get(owner) ?? 0) - released;
    if (left > 0) this.#countByOwner.set(owner, left);
    else this.#countByOwner.delete(owner);
  }
}
