/**
 * Finds out whether a relay that keeps silent is still there. Over UDP a killed one leaves no trace of its own, and
 * QUIC's idle time-out takes longer than programs have patience.
 */

import { sleep } from "../../base/async.ts";

/** Two ways to ask a relay. */
export interface SignOfLifeOptions {
  /** Resolves with any answer to a request on the connection; rejects when the connection itself has ended. */
  readonly ask: (signal: AbortSignal) => Promise<void>;
  /** Whether nobody listens any more where the relay's process did. */
  readonly isRefused: (signal: AbortSignal) => Promise<boolean>;
  /** Milliseconds for each of the requests; default 800. */
  readonly patience?: number;
}

/** Requests made one after the other: of a lossy path's datagrams, and of a starved process's timers, one is no proof. */
const REQUESTS = 3;

/** Milliseconds for which each is waited for. */
const PATIENCE_MS = 800;

/** Part of them after which the other way is tried too: a relay that is well has answered by then. */
const OTHER_WAY_AFTER = 0.25;

/** Resolves with false when there is no sign of life, and true when there is, or when the connection tells by itself. */
export async function hasSignOfLife(options: SignOfLifeOptions): Promise<boolean> {
  const { ask, isRefused, patience = PATIENCE_MS } = options;
  const over = new AbortController();
  const { signal } = over;
  let isAlive = true;
  const end = (alive: boolean) => {
    if (signal.aborted) return;
    isAlive = alive;
    over.abort();
  };
  const ended = () => signal.aborted;
  try {
    for (let request = 0; request < REQUESTS && !ended(); request++) {
      ask(signal).then(() => end(true), () => end(true));
      if (request === 0) {
        await sleep(patience * OTHER_WAY_AFTER, { signal });
        isRefused(signal).then((refused) => refused && end(false), ignore);
      }
      await sleep(patience, { signal });
    }
    end(false);
  } catch (error) {
    // Only our own signal ends a sleep early.
    if (!ended()) throw error;
  }
  return isAlive;
}

function ignore(): void {}
