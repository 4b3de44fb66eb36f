/**
 * Limits how often something happens, with the clock as an argument: ICMP errors and audit lines that a peer can provoke.
 */

/** A bucket that holds `burst` tokens and gains `perSecond`. */
export class TokenBucket {
  readonly #burst: number;
  readonly #perSecond: number;
  #tokens: number;
  #since = 0;

  constructor({ burst, perSecond }: { readonly burst: number; readonly perSecond: number }) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#tokens = burst;
  }

  /** Takes a token; false when there is none. `now` is in milliseconds. */
  take(now: number): boolean {
    const gained = (now - this.#since) * this.#perSecond / 1_000;
    // A clock that was set back gains nothing and takes nothing away.
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, gained));
    this.#since = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
