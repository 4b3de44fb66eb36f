/**
 * Waits for a condition instead of for the clock: the one way tests wait for something they are not told about.
 */

/** How long and how often to look. */
export interface EventuallyOptions {
  /** Milliseconds after which the wait fails; default 10 s. */
  readonly timeout?: number;
  /** Milliseconds between looks, at least as long as a look takes; default 10. */
  readonly interval?: number;
}

/**
 * Calls `probe` until it returns something other than `undefined`, `null` or `false`, and resolves with that. A
 * probe that throws counts as "not yet"; when time runs out its last error is the failure.
 */
export async function eventually<T>(
  probe: () => T | Promise<T>,
  options: EventuallyOptions = {},
): Promise<NonNullable<Exclude<T, false>>> {
  const { timeout = 10_000, interval = 10 } = options;
  const deadline = performance.now() + timeout;
  for (;;) {
    let fault: unknown;
    const looked = performance.now();
    try {
      const value = await probe();
      if (value !== undefined && value !== null && value !== false) {
        return value as NonNullable<Exclude<T, false>>;
      }
    } catch (error) {
      fault = error;
    }
    if (performance.now() >= deadline) {
      throw new Error(`Not so within ${timeout} ms: ${fault ?? probe}`, { cause: fault });
    }
    // What costs much to look at is not looked at all the time: others wait for the processor.
    const pause = Math.max(interval, performance.now() - looked);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
