/**
 * Writes down each hour where the audit log stands. Whoever can write the database can hash a whole log anew or cut its
 * end off; a head that lies elsewhere, with the controller's logs, gives that away.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Store } from "../store.ts";

/** How to write heads. */
export interface AuditHeadLogOptions {
  readonly store: Pick<Store, "queryAudit">;
  readonly logger: Logger;
  /** Milliseconds between heads; default one hour. */
  readonly interval?: number;
}

/** Writes the head now, at each interval, and when it is closed. */
export class AuditHeadLog {
  readonly #options: AuditHeadLogOptions;
  readonly #timer: ReturnType<typeof setInterval>;
  #last = "";
  #writing: Promise<void>;

  constructor(options: AuditHeadLogOptions) {
    this.#options = options;
    this.#writing = this.#write();
    this.#timer = setInterval(
      () => this.#writing = this.#writing.then(() => this.#write()),
      options.interval ?? 3_600_000,
    );
    Deno.unrefTimer(this.#timer);
  }

  /** Writes the last head; before the store is closed. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
    await this.#write();
  }

  async #write(): Promise<void> {
    const { store, logger } = this.#options;
    try {
      const [newest] = await store.queryAudit({ limit: 1 });
      if (newest === undefined) return;
      // In the form that `ginnel audit verify --head` takes.
      const head = `${newest.hash}@${newest.seq}`;
      if (head !== this.#last) logger.info("audit_head", { head });
      this.#last = head;
    } catch (error) {
      logger.warn("audit_head_unknown", { detail: errorMessage(error) });
    }
  }
}
