/** Tells of changes: at once of this process's own, soon of those that others commit. */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Database } from "./database.ts";

/** Listeners for changes. The database is listened to while there are any. */
export class ChangeWatch {
  readonly #database: Database;
  readonly #logger: Logger;
  readonly #listeners = new Set<{ readonly call: () => void }>();
  #stop: (() => void) | undefined;

  constructor(database: Database, logger: Logger) {
    this.#database = database;
    this.#logger = logger;
  }

  /** Returns the way to stop. */
  add(call: () => void): () => void {
    const listener = { call };
    this.#listeners.add(listener);
    this.#stop ??= this.#database.listen(() => this.tell());
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.close();
    };
  }

  /** Calls everybody. */
  tell(): void {
    for (const { call } of [...this.#listeners]) {
      try {
        call();
      } catch (error) {
        this.#logger.error("store_listener_failed", { message: errorMessage(error) });
      }
    }
  }

  /** Stops listening to the database. */
  close(): void {
    this.#stop?.();
    this.#stop = undefined;
  }
}
