/**
 * How long a relay may take before another one is asked beside it: some times what it usually takes.
 */

/** Milliseconds: a path of a hundred milliseconds and a busy relay must not look like a dead one. */
const LEAST_MS = 300;

/** Milliseconds: with one relay dead, a flow still begins well within two seconds. */
const MOST_MS = 900;

/** Milliseconds while nothing is known. */
const UNKNOWN_MS = 600;

/** How many times the usual time counts as slow. */
const FACTOR = 4;

/** Weight of the newest answer in what is usual. */
const NEWEST = 0.2;

/** Learns from answers, and keeps no relay alive. */
export class Patience<P extends object> {
  readonly #usual = new WeakMap<P, number>();

  /** The peer has answered after `milliseconds`. */
  answered(peer: P, milliseconds: number): void {
    const usual = this.#usual.get(peer) ?? milliseconds;
    this.#usual.set(peer, usual + NEWEST * (milliseconds - usual));
  }

  /** Milliseconds to wait for this peer alone. */
  of(peer: P): number {
    const usual = this.#usual.get(peer);
    if (usual === undefined) return UNKNOWN_MS;
    return Math.min(Math.max(FACTOR * usual, LEAST_MS), MOST_MS);
  }
}
