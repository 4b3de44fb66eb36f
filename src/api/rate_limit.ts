/** Token buckets by key in a bounded table: what is asked too often waits, and a flood of new keys costs no memory. */

/** How fast a bucket refills and how much it holds. */
export interface Rate {
  /** Requests a second in the long run. */
  readonly perSecond: number;
  /** Requests at once after a pause. */
  readonly burst: number;
}

/** How to limit. */
export interface RateLimiterOptions extends Rate {
  /** Milliseconds. */
  readonly now: () => number;
  /** Most keys remembered; default 10,000. The one not seen for longest makes room. */
  readonly maxKeys?: number;
}

interface Bucket {
  tokens: number;
  at: number;
}

/** Limits how often each key may do something. */
export class RateLimiter {
  readonly #options: RateLimiterOptions;
  readonly #maxKeys: number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(options: RateLimiterOptions) {
    this.#options = options;
    this.#maxKeys = options.maxKeys ?? 10_000;
  }

  /** Takes from a key's bucket; returns 0, or in how many seconds to try again. */
  take(key: string, cost = 1): number {
    const { perSecond, burst, now } = this.#options;
    const time = now();
    const bucket = this.#buckets.get(key) ?? { tokens: burst, at: time };
    // A clock set back gives nothing and takes nothing.
    const elapsed = Math.max(0, time - bucket.at) / 1000;
    bucket.tokens = Math.min(burst, bucket.tokens + elapsed * perSecond);
    bucket.at = time;
    this.#keep(key, bucket);
    if (bucket.tokens < 1) return Math.max(1, Math.ceil((1 - bucket.tokens) / perSecond));
    bucket.tokens -= cost;
    return 0;
  }

  /** Takes more from a key without asking: for requests that turned out to be bad. */
  charge(key: string, cost: number): void {
    const bucket = this.#buckets.get(key);
    if (bucket !== undefined) bucket.tokens = Math.max(-this.#options.burst, bucket.tokens - cost);
  }

  #keep(key: string, bucket: Bucket): void {
    this.#buckets.delete(key);
    if (this.#buckets.size >= this.#maxKeys) this.#buckets.delete(this.#buckets.keys().next().value!);
    this.#buckets.set(key, bucket);
  }
}
