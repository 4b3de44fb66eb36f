/** A PostgreSQL server, shared by several controllers: each hears at once of what the others commit. */

import { Kysely, sql } from "kysely";
import { sleep } from "../../base/async.ts";
import { errorCode, errorMessage, GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { CHANGE_CHANNEL, type Database, type DatabaseHearer, MESSAGE_CHANNEL } from "./database.ts";
import { closePostgres, connectPostgres, PostgresDialect } from "./postgres_dialect.ts";
import type { Tables } from "./schema.ts";

/** Milliseconds between looks at the revision: a notification may be lost with its connection, unnoticed. */
const LOOK_INTERVAL = 5_000;

/** Milliseconds until a lost connection is made again: the first time, and at most. */
const RETRY_INTERVAL = 100;
const MAX_RETRY_INTERVAL = 2_000;

/** Milliseconds between attempts to reach a server that is not there yet. */
const ATTEMPT_INTERVAL = 500;

/** Oldest server that has all we use, as `server_version_num`. */
const MIN_VERSION = 130_000;

/** How to open a server's database. */
export interface PostgresOptions {
  readonly logger: Logger;
  readonly readOnly?: boolean;
  /** Milliseconds to wait for a server that cannot be reached, as one that starts at the same time; default 0. */
  readonly patience?: number;
}

/** Connects; throws `GinnelError` when there is no usable server. */
export async function openPostgres(
  url: string,
  { logger, readOnly = false, patience = 0 }: PostgresOptions,
): Promise<Database> {
  const db = new Kysely<Tables>({ dialect: new PostgresDialect(url, { readOnly }) });
  let version: number;
  try {
    version = await reach(() => versionOf(db), { patience, logger });
  } catch (error) {
    await db.destroy();
    if (errorCode(error) === "ERR_DATABASE_URL") throw error;
    throw new GinnelError(
      "ERR_DATABASE_UNUSABLE",
      `Cannot use the PostgreSQL server: ${errorMessage(error)}`,
      {
        cause: error,
        hint: "Check host, port, user, password and database of the URL, and that the server runs",
      },
    );
  }
  if (version < MIN_VERSION) {
    await db.destroy();
    throw new GinnelError("ERR_DATABASE_UNUSABLE", `Cannot use PostgreSQL ${Math.trunc(version / 10_000)}`, {
      hint: "Use version 13 or newer",
    });
  }
  const listeners = new Set<ChangeListener>();
  return {
    kind: "postgres",
    reader: db,
    writer: db,
    listen(hearer) {
      const listener = new ChangeListener(url, { hearer, logger, db });
      listeners.add(listener);
      return () => void listener.stop();
    },
    async send(text, queries) {
      await sql`SELECT pg_notify(${MESSAGE_CHANNEL}, ${text})`.execute(queries);
    },
    async close() {
      await Promise.all([...listeners].map((listener) => listener.stop()));
      await db.destroy();
    },
  };
}

async function versionOf(db: Kysely<Tables>): Promise<number> {
  const { rows } = await sql<{ version: string }>`SELECT current_setting('server_version_num') AS version`
    .execute(db);
  return Number(rows[0]?.version);
}

/** Repeats what fails because nobody answers; what a server answers is final. */
async function reach<T>(
  attempt: () => Promise<T>,
  { patience, logger }: { readonly patience: number; readonly logger: Logger },
): Promise<T> {
  const deadline = Date.now() + patience;
  for (let attempts = 1;; attempts++) {
    try {
      return await attempt();
    } catch (error) {
      if (errorCode(error) !== "ERR_DATABASE_LOST" || Date.now() >= deadline) throw error;
      if (attempts === 1) {
        logger.warn("database_awaited", { reason: errorMessage(error), seconds: patience / 1_000 });
      }
      await sleep(ATTEMPT_INTERVAL);
    }
  }
}

/** A connection that waits for notifications, made anew whenever it is lost. */
class ChangeListener {
  readonly #client: ReturnType<typeof connectPostgres>;
  readonly #hearer: DatabaseHearer;
  readonly #logger: Logger;
  readonly #db: Kysely<Tables>;
  readonly #looks: ReturnType<typeof setInterval>;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #revision: number | undefined;
  #stopping: Promise<void> | undefined;

  constructor(
    url: string,
    { hearer, logger, db }: {
      readonly hearer: DatabaseHearer;
      readonly logger: Logger;
      readonly db: Kysely<Tables>;
    },
  ) {
    this.#hearer = hearer;
    this.#logger = logger;
    this.#db = db;
    this.#client = connectPostgres(url, {
      onNotify: (channel, text) =>
        channel === MESSAGE_CHANNEL ? this.#hearer.onMessage(text) : this.#hearer.onChange(),
      onClose: () => this.#listenLater("connection lost"),
    });
    // A look that fails says nothing; the next one or the next query does.
    this.#looks = setInterval(() => this.#look().catch(() => undefined), LOOK_INTERVAL);
    Deno.unrefTimer(this.#looks);
    void this.#listen();
  }

  stop(): Promise<void> {
    return this.#stopping ??= this.#stop();
  }

  async #stop(): Promise<void> {
    clearInterval(this.#looks);
    clearTimeout(this.#retry);
    await closePostgres(this.#client);
  }

  async #listen(): Promise<void> {
    this.#retry = undefined;
    try {
      await this.#client.unsafe(`LISTEN ${CHANGE_CHANNEL}; LISTEN ${MESSAGE_CHANNEL}`);
    } catch (error) {
      this.#listenLater(errorMessage(error));
      return;
    }
    if (this.#failures > 0) this.#logger.info("database_listening_again");
    this.#failures = 0;
    // Whatever was committed before is not notified.
    this.#hearer.onChange();
  }

  #listenLater(reason: string): void {
    if (this.#stopping !== undefined || this.#retry !== undefined) return;
    if (this.#failures === 0) this.#logger.warn("database_not_listening", { reason });
    const delay = Math.min(MAX_RETRY_INTERVAL, RETRY_INTERVAL * 2 ** Math.min(this.#failures++, 10));
    this.#retry = setTimeout(() => void this.#listen(), delay);
    Deno.unrefTimer(this.#retry);
  }

  async #look(): Promise<void> {
    const { revision } = await this.#db.selectFrom("network_state").select("revision").where("id", "=", 1)
      .executeTakeFirstOrThrow();
    if (this.#revision !== undefined && this.#revision !== revision) this.#hearer.onChange();
    this.#revision = revision;
  }
}
