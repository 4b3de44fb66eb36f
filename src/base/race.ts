/**
 * Tries one subject after the other until one succeeds: the next starts when those before it have failed, or have had
 * their head start. The first success wins, the rest are called off.
 */

import { withSignal } from "./async.ts";

/** How to try a subject. */
export interface RaceOptions<S, T> {
  readonly signal: AbortSignal;
  /** Milliseconds an attempt has to itself before the next one starts beside it. */
  headStart(subject: S): number;
  /** `signal` fires with the race's own, and once another subject has won. */
  attempt(subject: S, signal: AbortSignal): Promise<T>;
  /** Receives what succeeded too late. */
  discard(late: T): void;
  /** Called when a subject has used up its head start. */
  onSlow?(subject: S): void;
  /** Whether an error ends the race for all. */
  isFinal?(error: unknown): boolean;
}

/** Resolves with the first success; rejects with the signal's reason, the final error, or with an `AggregateError` of all. */
export async function race<S, T>(subjects: readonly S[], options: RaceOptions<S, T>): Promise<T> {
  const { signal } = options;
  signal.throwIfAborted();
  const over = new AbortController();
  const onAbort = () => over.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  const final = Promise.withResolvers<never>();
  final.promise.catch(ignore);
  const tryOne = async (subject: S) => {
    try {
      const made = await options.attempt(subject, over.signal);
      if (over.signal.aborted) options.discard(made);
      else over.abort(new RaceLostError());
      return made;
    } catch (error) {
      if (!over.signal.aborted && options.isFinal?.(error)) {
        over.abort(error);
        final.reject(error);
      }
      throw error;
    }
  };
  const attempts: Promise<T>[] = [];
  try {
    for (const subject of subjects) {
      const attempt = tryOne(subject);
      attempts.push(attempt);
      const isSlow = await outlasts(attempt, options.headStart(subject), over.signal);
      if (over.signal.aborted) break;
      if (isSlow) options.onSlow?.(subject);
    }
    return await withSignal(Promise.race([Promise.any(attempts), final.promise]), signal);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Why an attempt's signal fires: another subject was faster. */
class RaceLostError extends Error {
  override readonly name = "RaceLostError";

  constructor() {
    super("Another attempt was faster");
  }
}

/** Waits for the attempt's result; resolves with true when it takes longer than `milliseconds`. */
function outlasts(attempt: Promise<unknown>, milliseconds: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const end = (isSlow: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", settle);
      resolve(isSlow);
    };
    const settle = () => end(false);
    const timer = setTimeout(() => end(true), milliseconds);
    signal.addEventListener("abort", settle, { once: true });
    attempt.then(settle, settle);
  });
}

function ignore(): void {}
