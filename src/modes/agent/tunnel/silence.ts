/**
 * When a tunnel gives reason to doubt that its peer is still there: nothing comes any more, or nothing answers what is
 * sent. QUIC's own idle time-out takes longer than programs have patience.
 */

/** How much a tunnel has carried so far. */
export interface Carried {
  readonly packetsIn: number;
  readonly packetsOut: number;
}

/** Looks without a packet in, after which and between which there is reason to ask. */
const PATIENCE = 3;

/** Watches one tunnel; to be looked at once a second. */
export class SilenceWatch {
  #in = -1;
  #out = -1;
  #looks = 0;

  /** Tells whether to ask the peer for a sign of life now: once when packets stop coming, then as long as some are sent. */
  isSuspicious({ packetsIn, packetsOut }: Carried): boolean {
    if (packetsIn !== this.#in) {
      this.#in = packetsIn;
      this.#out = -1;
      this.#looks = 0;
      return false;
    }
    this.#looks++;
    if (this.#looks % PATIENCE !== 0 || packetsOut === this.#out) return false;
    this.#out = packetsOut;
    return true;
  }
}
