/** Tells of changes and notices: at once of this process's own, soon of those of others. */

import type { Transaction } from "kysely";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Notice } from "../../control/store.ts";
import type { Database } from "./database.ts";
import { readNotice, writeNotice } from "./notice_text.ts";
import type { Tables } from "./schema.ts";

/** Listeners for changes and notices. The database is listened to while there are any. */
export class ChangeWatch {
  readonly #database: Database;
  readonly #logger: Logger;
  readonly #forChanges = new Set<{ readonly call: () => void }>();
  readonly #forNotices = new Set<{ readonly call: (notice: Notice) => void }>();
  /** Tells own notices, which were told at once, from others'. */
  readonly #self = crypto.randomUUID();
  #stop: (() => void) | undefined;

  constructor(database: Database, logger: Logger) {
    this.#database = database;
    this.#logger = logger;
  }

  /** Calls back after changes; returns the way to stop. */
  onChange(call: () => void): () => void {
    return this.#add(this.#forChanges, { call });
  }

  /** Calls back with notices; returns the way to stop. */
  onNotice(call: (notice: Notice) => void): () => void {
    return this.#add(this.#forNotices, { call });
  }

  /** Tells everybody here that there is a change. */
  tell(): void {
    for (const { call } of [...this.#forChanges]) this.#try(call);
  }

  /** Tells everybody of a notice. */
  async announce(notice: Notice): Promise<void> {
    await this.transact((_tx, announce) => Promise.resolve(announce(notice)));
  }

  /** Runs `work` in a transaction; what it announces is told when that has committed, and only then. */
  async transact<T>(
    work: (tx: Transaction<Tables>, announce: (notice: Notice) => void) => Promise<T>,
  ): Promise<T> {
    const { kind, writer } = this.#database;
    const notices: Notice[] = [];
    const result = await writer.transaction().execute(async (tx) => {
      const value = await work(tx, (notice) => void notices.push(notice));
      // PostgreSQL passes it on with the commit: a crash in between loses neither one nor the other.
      if (kind === "postgres") { for (const notice of notices) await this.#send(notice, tx); }
      return value;
    });
    for (const notice of notices) {
      if (kind === "sqlite") await this.#send(notice, writer);
      this.#hear(notice);
    }
    return result;
  }

  /** Stops listening to the database. */
  close(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  #add<L>(listeners: Set<L>, listener: L): () => void {
    listeners.add(listener);
    this.#stop ??= this.#database.listen({
      onChange: () => this.tell(),
      onMessage: (text) => {
        const sent = readNotice(text);
        if (sent !== undefined && sent.from !== this.#self) this.#hear(sent.notice);
      },
    });
    return () => {
      listeners.delete(listener);
      if (this.#forChanges.size + this.#forNotices.size === 0) this.close();
    };
  }

  async #send(notice: Notice, queries: Parameters<Database["send"]>[1]): Promise<void> {
    const text = writeNotice({ from: this.#self, notice });
    if (text !== undefined) await this.#database.send(text, queries);
  }

  #hear(notice: Notice): void {
    for (const { call } of [...this.#forNotices]) this.#try(() => call(notice));
  }

  #try(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#logger.error("store_listener_failed", { message: errorMessage(error) });
    }
  }
}
