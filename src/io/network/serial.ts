/** Runs asynchronous steps one after the other, in the order in which they were asked for. */

/** A queue of one: a step begins when the one before has settled. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `step` after all earlier ones, whether they succeeded or not. */
  run<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(step, step);
    this.#last = result.catch(() => {});
    return result;
  }
}
