/**
 * A queue between the loop that receives from a peer and the one consumer that iterates. Bounded by what
 * fills it: stream limits, or a capacity at which the oldest item is dropped.
 */

/** How full a {@linkcode Queue} may get. */
export interface QueueOptions<T> {
  /** Most items that wait; beyond it the oldest is dropped. Absent: the producer bounds itself. */
  readonly capacity?: number;
  /** Receives what is dropped, also everything left when the consumer goes away. */
  readonly onDrop?: (item: T) => void;
}

/** First in, first out; ends when closed and empty. One consumer. */
export class Queue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #options: QueueOptions<T>;
  #wake: (() => void) | undefined;
  #closed = false;

  constructor(options: QueueOptions<T> = {}) {
    this.#options = options;
  }

  /** Adds an item; after the end it is dropped. */
  push(item: T): void {
    if (this.#closed) return this.#drop(item);
    this.#items.push(item);
    const { capacity = Infinity } = this.#options;
    if (this.#items.length > capacity) this.#drop(this.#items.shift() as T);
    this.#wake?.();
  }

  /** Ends the queue behind the items that wait. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  /** Iterates until closed; leaving the loop early drops what waits and closes the queue. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        while (this.#items.length > 0) yield this.#items.shift() as T;
        if (this.#closed) return;
        await new Promise<void>((resolve) => this.#wake = resolve);
        this.#wake = undefined;
      }
    } finally {
      this.#closed = true;
      for (const item of this.#items.splice(0)) this.#drop(item);
    }
  }

  #drop(item: T): void {
    this.#options.onDrop?.(item);
  }
}
