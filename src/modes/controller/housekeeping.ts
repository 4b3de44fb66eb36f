/** What a controller does by the clock: forgets what is over, and writes down where the audit log stands. */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { AuditHeadLog } from "../../control/audit/head_log.ts";
import type { Store } from "../../control/store.ts";

const PRUNE_INTERVAL_MS = 10 * 60_000;

/** Runs until it is disposed of. */
export class Housekeeping implements AsyncDisposable {
  readonly #store: Store;
  readonly #logger: Logger;
  readonly #head: AuditHeadLog;
  readonly #timer: ReturnType<typeof setInterval>;
  #running: Promise<void> = Promise.resolve();

  constructor({ store, logger }: { readonly store: Store; readonly logger: Logger }) {
    this.#store = store;
    this.#logger = logger;
    this.#head = new AuditHeadLog({ store, logger });
    this.#timer = setInterval(() => this.#prune(), PRUNE_INTERVAL_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
    await this.#head.close();
  }

  #prune(): void {
    this.#running = this.#running.then(() => this.#store.prune(Date.now())).catch((error) => {
      this.#logger.error("housekeeping_failed", { detail: errorMessage(error) });
    });
  }
}
