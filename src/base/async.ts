/**
 * Async tools with explicit bounds: waiting with a signal, back-off delays. Clock and randomness are arguments.
 */

/** Resolves after `ms` milliseconds; rejects with `signal.reason` when aborted. */
export function sleep(ms: number, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** Settles like `promise`, or rejects with `signal.reason` when the signal fires first. */
export function withSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      promise.catch(() => {});
      return reject(signal.reason);
    }
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** A task took longer than it may. */
export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

/**
 * Runs a task under a signal that fires with a {@linkcode DeadlineError} after `milliseconds`, or with the parent
 * signal's reason; rejects as soon as it fires. The timer ends with the task: `AbortSignal.timeout` keeps its own,
 * and builds an exception when nobody listens any more, which shows where a flow each millisecond is opened.
 */
export async function withDeadline<T>(
  milliseconds: number,
  task: (signal: AbortSignal) => Promise<T>,
  options: { readonly signal?: AbortSignal } = {},
): Promise<T> {
  const { signal: parent } = options;
  parent?.throwIfAborted();
  const ending = new AbortController();
  const fired = Promise.withResolvers<never>();
  const end = (reason: unknown) => {
    ending.abort(reason);
    fired.reject(reason);
  };
  const onAbort = () => end(parent!.reason);
  const timer = setTimeout(() => end(new DeadlineError(`Not done within ${milliseconds} ms`)), milliseconds);
  parent?.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([task(ending.signal), fired.promise]);
  } finally {
    clearTimeout(timer);
    parent?.removeEventListener("abort", onAbort);
  }
}

/**
 * Delay in milliseconds before reconnect attempt `attempt` (0-based): 1 s doubling to 30 s, each
 * spread over its upper half by `random` in [0, 1) so that nodes do not return in step.
 */
export function backoffDelay(attempt: number, random: number): number {
  const ceiling = Math.min(30_000, 1_000 * 2 ** Math.min(attempt, 5));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}
