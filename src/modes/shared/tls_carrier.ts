/**
 * The TLS-over-TCP carrier beside a relay's QUIC connection: decides whether it is worth using, and paces its dials.
 *
 * Measured over two hops on one machine, TLS moved 4.3 Gbit/s where QUIC moved 0.8 with the relay's core full, and
 * a byte's round trip took 0.10 ms against 0.32. QUIC keeps long and lossy paths, and bursts of short flows.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ClientConnection } from "../../dataplane/carrier.ts";

/** Which carrier a node may use. */
export type CarrierChoice = "auto" | "quic" | "tls";

/** What the carrier needs. */
export interface TlsCarrierOptions {
  readonly choice: CarrierChoice;
  readonly dial: (signal: AbortSignal) => Promise<ClientConnection>;
  readonly logger: Logger;
  /** Milliseconds, monotonic; default `performance.now`. */
  readonly now?: () => number;
}

/**
 * Dial time in milliseconds up to which a path counts as short and clean: TCP and TLS take two round trips. The
 * best of at least this many counts, since a busy machine makes any one of them slow, or many.
 */
const FAST_DIAL_MS = 25;
const DIALS_JUDGED = 8;

/** TLS dials a second, and how many may come at once: handshake and proof cost both ends about 4 ms of CPU. */
const DIALS_PER_SECOND = 2;
const DIAL_BURST = 16;

/** Milliseconds after a slow or failed dial until `auto` tries again. */
const RETRY_MS = 60_000;

/** Milliseconds one dial may take. */
const DIAL_TIMEOUT_MS = 5_000;

/** Hands out TLS connections where they serve better than QUIC streams. */
export class TlsCarrier {
  readonly #options: TlsCarrierOptions;
  readonly #now: () => number;
  #tokens = DIAL_BURST;
  #refilled: number;
  #avoidUntil = 0;
  #hasDialled = false;
  #dials = 0;
  #fastest = Infinity;

  constructor(options: TlsCarrierOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#refilled = this.#now();
  }

  /** True when new flows should not even try QUIC. */
  get isForced(): boolean {
    return this.#options.choice === "tls";
  }

  /** Whether a dial now would be worth it. */
  get isWorthwhile(): boolean {
    if (this.#options.choice !== "auto") return this.isForced;
    return this.#now() >= this.#avoidUntil;
  }

  /**
   * A fresh connection, or undefined when QUIC serves better now. Rejects only where TLS is forced. A flow that would
   * have to wait for its dial gets one only while dials are few.
   */
  async take(options: { readonly waiting?: boolean } = {}): Promise<ClientConnection | undefined> {
    if (this.isForced) {
      const connection = await this.#options.dial(AbortSignal.timeout(DIAL_TIMEOUT_MS));
      this.#hasDialled = true;
      return connection;
    }
    if (!this.isWorthwhile || !this.#spend(options.waiting ? DIAL_BURST / 2 : 1)) return undefined;
    const started = this.#now();
    try {
      const connection = await this.#options.dial(AbortSignal.timeout(DIAL_TIMEOUT_MS));
      this.#judge(this.#now() - started);
      return connection;
    } catch (error) {
      this.#avoid(errorMessage(error));
      return undefined;
    }
  }

  /** Whether nobody listens any more where a dial succeeded before. It dials, unless it never did. */
  async isRefused(signal: AbortSignal): Promise<boolean> {
    if (!this.#hasDialled) return false;
    try {
      const connection = await this.#options.dial(
        AbortSignal.any([signal, AbortSignal.timeout(DIAL_TIMEOUT_MS)]),
      );
      await connection.close(0, "");
      return false;
    } catch (error) {
      return error instanceof Deno.errors.ConnectionRefused;
    }
  }

  /** The path may be another one: judges it anew. */
  reset(): void {
    this.#hasDialled = false;
    this.#avoidUntil = 0;
    this.#judgeAnew();
  }

  #judgeAnew(): void {
    this.#dials = 0;
    this.#fastest = Infinity;
  }

  #judge(dialTime: number): void {
    this.#hasDialled = true;
    this.#dials++;
    this.#fastest = Math.min(this.#fastest, dialTime);
    if (this.#dials >= DIALS_JUDGED && this.#fastest > FAST_DIAL_MS) this.#avoid("path too long");
  }

  #avoid(reason: string): void {
    this.#judgeAnew();
    this.#avoidUntil = this.#now() + RETRY_MS;
    this.#options.logger.info("tls_carrier_unused", { reason, retrySeconds: RETRY_MS / 1_000 });
  }

  /** Pays for a dial, unless fewer than `reserve` are left. */
  #spend(reserve: number): boolean {
    const now = this.#now();
    this.#tokens = Math.min(DIAL_BURST, this.#tokens + (now - this.#refilled) / 1_000 * DIALS_PER_SECOND);
    this.#refilled = now;
    if (this.#tokens < reserve) return false;
    this.#tokens--;
    return true;
  }
}
