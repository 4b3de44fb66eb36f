/**
 * Dials until one dial succeeds, and begins another beside the ones under way when somebody waits: QUIC asks ever more
 * rarely, so that after a while without a network an old dial finds out seconds too late that it is back.
 */

import { sleep } from "../../base/async.ts";

/** Milliseconds between the begins of two dials, and dials under way at most. */
const GAP_MS = 1_000;
const MOST_DIALS = 12;

/** Milliseconds between two connections at least, whoever waits. */
const LEAST_PAUSE_MS = 500;

/** How to dial. */
export interface WakeableDialOptions<T> {
  /** Dials once; gives up when the signal fires. */
  readonly dial: (signal: AbortSignal) => Promise<T>;
  /** Receives what was dialled too late. */
  readonly discard: (late: T) => void;
  readonly signal: AbortSignal;
}

/** One dial, or several beside one another, of which the first to succeed counts. */
export class WakeableDial<T> {
  /** The first success; rejects with the last failure when no dial is left. */
  readonly result: Promise<T>;
  readonly #options: WakeableDialOptions<T>;
  readonly #over = new AbortController();
  readonly #signal: AbortSignal;
  #resolve!: (made: T) => void;
  #reject!: (error: unknown) => void;
  #underWay = 0;
  #begunAt = -Infinity;
  #isWaking = false;

  /** Begins the first dial. */
  constructor(options: WakeableDialOptions<T>) {
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#over.signal]);
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.result.catch(ignore);
    void this.#begin();
  }

  /** Somebody waits: another dial begins, as soon as the last one is not quite fresh any more. */
  wake(): void {
    if (this.#isWaking || this.#signal.aborted || this.#underWay >= MOST_DIALS) return;
    this.#isWaking = true;
    sleep(Math.max(0, this.#begunAt + GAP_MS - performance.now()), { signal: this.#signal })
      .then(() => this.#begin(), ignore)
      .finally(() => this.#isWaking = false);
  }

  async #begin(): Promise<void> {
    this.#underWay++;
    this.#begunAt = performance.now();
    try {
      const made = await this.#options.dial(this.#signal);
      if (this.#signal.aborted) return this.#options.discard(made);
      this.#resolve(made);
      this.#over.abort(new Error("Another dial was faster"));
    } catch (error) {
      if (this.#underWay > 1) return;
      this.#reject(error);
      this.#over.abort(error);
    } finally {
      this.#underWay--;
    }
  }
}

/** The time between two dials, which ends early when somebody waits. */
export class WakeablePause {
  /** Resolves when it is over, or the signal fires. */
  readonly over: Promise<void>;
  readonly #woken = new AbortController();
  #isWoken = false;
  /** Whether it has lasted as long as it must. */
  #isLong = false;

  constructor(milliseconds: number, signal: AbortSignal) {
    this.over = this.#pause(milliseconds, AbortSignal.any([signal, this.#woken.signal]));
  }

  /** Somebody waits. */
  wake(): void {
    this.#isWoken = true;
    if (this.#isLong) this.#woken.abort();
  }

  async #pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    await sleep(LEAST_PAUSE_MS, { signal }).catch(ignore);
    this.#isLong = true;
    if (!this.#isWoken) await sleep(milliseconds - LEAST_PAUSE_MS, { signal }).catch(ignore);
  }
}

function ignore(): void {}
