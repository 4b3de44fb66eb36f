/** What a controller does by the clock: forgets what is over, and writes down where the audit log stands. */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Store } from "../../control/store.ts";

const PRUNE_INTERVAL_MS = 10 * 60_000;
const HEAD_INTERVAL_MS = 60 * 60_000;

/** Runs until it is disposed of. */
export class Housekeeping implements AsyncDisposable {
  readonly #store: Store;
  readonly #logger: Logger;
  readonly #timers: readonly ReturnType<typeof setInterval>[];
  #running: Promise<void> = Promise.resolve();

  constructor({ store, logger }: { readonly store: Store; readonly logger: Logger }) {
    this.#store = store;
    this.#logger = logger;
    this.#timers = [
      setInterval(() => this.#run(() => this.#store.prune(Date.now())), PRUNE_INTERVAL_MS),
      setInterval(() => this.#run(() => this.#logHead()), HEAD_INTERVAL_MS),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await this.#running;
  }

  #run(work: () => Promise<void>): void {
    this.#running = this.#running.then(work).catch((error) => {
      this.#logger.error("housekeeping_failed", { detail: errorMessage(error) });
    });
  }

  /** Kept elsewhere, with the other log lines, it shows later whether entries were cut off: `ginnel audit verify --head`. */
  async #logHead(): Promise<void> {
    const [head] = await this.#store.queryAudit({ limit: 1 });
    if (head !== undefined) this.#logger.info("audit_head", { head: `${head.hash}@${head.seq}` });
  }
}
