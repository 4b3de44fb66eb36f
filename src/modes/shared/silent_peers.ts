/**
 * Who lately did not answer in time: a killed relay or connector looks alive until its connection's idle time-out,
 * and meanwhile the others go first.
 */

/** Milliseconds for which silence counts: by then the connection of a dead peer is known to be gone. */
const SILENT_MS = 30_000;

/** Remembers silent peers without keeping them alive. */
export class SilentPeers<P extends object> {
  readonly #until = new WeakMap<P, number>();

  /** The peer left a request unanswered. */
  add(peer: P): void {
    this.#until.set(peer, performance.now() + SILENT_MS);
  }

  /** The peer answered. */
  delete(peer: P): void {
    this.#until.delete(peer);
  }

  /** The same peers in the same order, except that the silent ones come last. */
  last(peers: readonly P[]): P[] {
    const now = performance.now();
    const isSilent = (peer: P) => (this.#until.get(peer) ?? 0) > now;
    return peers.toSorted((a, b) => Number(isSilent(a)) - Number(isSilent(b)));
  }
}
