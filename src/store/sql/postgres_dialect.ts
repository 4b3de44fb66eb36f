/**
 * kysely on postgres.js. Each connection is a client of its own, so that a connection lost within a transaction ends that
 * transaction: a pool would carry on with the rest of it on another connection.
 */

import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
  type TransactionSettings,
} from "kysely";
import postgres from "postgres";
import { errorMessage, GinnelError } from "../../base/errors.ts";

/** Connections of one controller. The server's default limit is 100 for all of them. */
const MAX_CONNECTIONS = 10;

/** Statements with more parameters have as many texts as lengths: the server would keep each of them. */
const MAX_PREPARED_PARAMETERS = 32;

/** Seconds until a connection attempt is given up. */
const CONNECT_TIMEOUT = 10;

/** Seconds that a query under way has when the database is closed. */
const CLOSE_TIMEOUT = 5;

/** Milliseconds until a query is given up whose connection says nothing any more. */
const QUERY_TIMEOUT = 120_000;

/** A client's one connection. */
export interface PostgresClientOptions {
  /** The server refuses every write; default false. */
  readonly readOnly?: boolean;
  readonly onClose: () => void;
  readonly onNotify?: (channel: string, text: string) => void;
}

/** A client of one connection, which it makes when it is used and makes again after a loss. */
export function connectPostgres(
  url: string,
  { readOnly = false, onClose, onNotify }: PostgresClientOptions,
): postgres.Sql {
  const options = {
    max: 1,
    max_lifetime: null,
    connect_timeout: CONNECT_TIMEOUT,
    backoff: () => 0.2,
    fetch_types: false,
    onnotice: () => {},
    onclose: onClose,
    ...(onNotify === undefined ? {} : { onnotify: onNotify }),
    connection: {
      application_name: "ginnel",
      DateStyle: "ISO",
      TimeZone: "UTC",
      // A controller that hangs must not keep the others from writing.
      idle_in_transaction_session_timeout: 30_000,
      lock_timeout: 20_000,
      ...(readOnly && { default_transaction_read_only: true }),
    },
    types: {
      long: { to: 20, from: [20], serialize: String, parse: Number },
      // As text: it is written and read in one place for both databases.
      json: { to: 114, from: [114, 3802], serialize: (text: string) => text, parse: (text: string) => text },
      date: {
        to: 1184,
        from: [1184],
        serialize: (time: number) => new Date(time).toISOString(),
        parse: (text: string) => Date.parse(text),
      },
    },
  };
  try {
    return postgres(url, options as unknown as postgres.Options<Record<string, postgres.PostgresType>>);
  } catch {
    // The cause would show the URL, and with it the password.
    throw new GinnelError("ERR_DATABASE_URL", "Cannot read the database's URL", {
      hint: "Write postgres://user:password@host:port/database, special characters of the password as %XX",
    });
  }
}

/** Ends a client; what it does is given a few seconds. */
export async function closePostgres(client: postgres.Sql): Promise<void> {
  await client.end({ timeout: CLOSE_TIMEOUT });
}

type Connect = (onClose: () => void) => postgres.Sql;

/** kysely's view of a PostgreSQL server. */
export class PostgresDialect implements Dialect {
  readonly #connect: Connect;

  constructor(url: string, { readOnly }: { readonly readOnly: boolean }) {
    this.#connect = (onClose) => connectPostgres(url, { readOnly, onClose });
  }

  createDriver(): Driver {
    return new PostgresDriver(this.#connect);
  }

  createQueryCompiler(): PostgresQueryCompiler {
    return new PostgresQueryCompiler();
  }

  createAdapter(): PostgresAdapter {
    return new PostgresAdapter();
  }

  // deno-lint-ignore no-explicit-any -- the type kysely gives
  createIntrospector(db: Kysely<any>): PostgresIntrospector {
    return new PostgresIntrospector(db);
  }
}

/** The pool: idle connections, the last used first, and those who wait, in order. */
class PostgresDriver implements Driver {
  readonly #connect: Connect;
  readonly #all: PostgresConnection[] = [];
  readonly #idle: PostgresConnection[] = [];
  readonly #waiting: PromiseWithResolvers<PostgresConnection>[] = [];
  #isClosed = false;

  constructor(connect: Connect) {
    this.#connect = connect;
  }

  init(): Promise<void> {
    return Promise.resolve();
  }

  acquireConnection(): Promise<DatabaseConnection> {
    if (this.#isClosed) return Promise.reject(closedError());
    const idle = this.#idle.pop();
    if (idle !== undefined) return Promise.resolve(idle);
    if (this.#all.length < MAX_CONNECTIONS) {
      const connection = new PostgresConnection(this.#connect);
      this.#all.push(connection);
      return Promise.resolve(connection);
    }
    const turn = Promise.withResolvers<PostgresConnection>();
    this.#waiting.push(turn);
    return turn.promise;
  }

  releaseConnection(connection: DatabaseConnection): Promise<void> {
    const free = connection as PostgresConnection;
    const next = this.#waiting.shift();
    if (next === undefined) this.#idle.push(free);
    else next.resolve(free);
    return Promise.resolve();
  }

  beginTransaction(connection: DatabaseConnection, settings: TransactionSettings): Promise<void> {
    return (connection as PostgresConnection).begin(settings);
  }

  commitTransaction(connection: DatabaseConnection): Promise<void> {
    return (connection as PostgresConnection).commit();
  }

  rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    return (connection as PostgresConnection).rollback();
  }

  async destroy(): Promise<void> {
    this.#isClosed = true;
    for (const turn of this.#waiting.splice(0)) turn.reject(closedError());
    await Promise.all(this.#all.map((connection) => connection.close()));
  }
}

class PostgresConnection implements DatabaseConnection {
  readonly #connectTo: Connect;
  #client: postgres.Sql | undefined;
  readonly #discarded = new Set<Promise<void>>();
  /** Whether the connection that a transaction began on is still the same. */
  #transaction: "none" | "open" | "lost" = "none";
  /** Ends the wait of the query under way. */
  #giveUp: ((error: Error) => void) | undefined;

  constructor(connect: Connect) {
    this.#connectTo = connect;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    // A connection may have ended while it was idle: what changes nothing is tried once more.
    const isRepeatable = this.#transaction === "none" && query.query.kind === "SelectQueryNode";
    const result = await (isRepeatable ? twice(() => this.#run(query)) : this.#run(query));
    return { rows: result as unknown as R[], numAffectedRows: BigInt(result.count ?? 0) };
  }

  /** Begins on a connection that is there: the one before may have ended while it was idle. */
  async begin({ isolationLevel, accessMode }: TransactionSettings): Promise<void> {
    const words = ["BEGIN"];
    if (isolationLevel !== undefined) words.push("ISOLATION LEVEL", isolationLevel);
    if (accessMode !== undefined) words.push(accessMode);
    await twice(async () => {
      this.#transaction = "open";
      try {
        await this.#run(CompiledQuery.raw(words.join(" ")));
      } catch (error) {
        this.#transaction = "none";
        throw error;
      }
    });
  }

  async commit(): Promise<void> {
    const result = await this.#run(CompiledQuery.raw("COMMIT"));
    this.#transaction = "none";
    if (result.command !== "ROLLBACK") return;
    throw new GinnelError(
      "ERR_DATABASE_ROLLBACK",
      "The database did not commit: a statement had failed before",
    );
  }

  async rollback(): Promise<void> {
    try {
      // With its connection the transaction has ended too.
      if (this.#transaction === "open") await this.#run(CompiledQuery.raw("ROLLBACK"));
    } finally {
      this.#transaction = "none";
    }
  }

  // deno-lint-ignore require-yield -- nothing streams
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    await Promise.reject(new Error("Cannot stream from PostgreSQL"));
  }

  async close(): Promise<void> {
    await Promise.all(this.#discarded);
    if (this.#client !== undefined) await closePostgres(this.#client);
  }

  async #run({ sql, parameters }: CompiledQuery): Promise<postgres.RowList<postgres.Row[]>> {
    if (this.#transaction === "lost") throw new LostConnection();
    const client = this.#client ??= this.#connect();
    const prepare = parameters.length <= MAX_PREPARED_PARAMETERS;
    // The driver forgets queries that come between a connection's error and its end.
    const lost = Promise.withResolvers<never>();
    this.#giveUp = lost.reject;
    const timer = setTimeout(() => lost.reject(new LostConnection()), QUERY_TIMEOUT);
    try {
      const query = client.unsafe(sql, parameters as postgres.ParameterOrJSON<never>[], { prepare });
      return await Promise.race([query, lost.promise]);
    } catch (error) {
      if (!isLost(error)) throw error;
      this.#discard(client);
      throw error instanceof GinnelError ? error : new LostConnection(error);
    } finally {
      clearTimeout(timer);
      this.#giveUp = undefined;
    }
  }

  #connect(): postgres.Sql {
    const client = this.#connectTo(() => {
      if (this.#client !== client) return;
      this.#giveUp?.(new LostConnection());
      this.#discard(client);
    });
    return client;
  }

  /** The next query gets a new client: whatever state this one is in, nobody waits for it. */
  #discard(client: postgres.Sql): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    if (this.#transaction === "open") this.#transaction = "lost";
    const ended = client.end({ timeout: 0 }).catch(() => undefined);
    this.#discarded.add(ended);
    void ended.then(() => this.#discarded.delete(ended));
  }
}

/** A connection ended that a query, or a transaction, was using. */
class LostConnection extends GinnelError {
  constructor(cause?: unknown) {
    const reason = cause === undefined ? "Lost the connection to the database" : errorMessage(cause);
    super("ERR_DATABASE_LOST", reason, {
      cause,
      hint: "Look whether the database runs; what was under way may have happened or not",
    });
  }
}

/** Whether an error is anything but the server's answer to a statement. */
function isLost(error: unknown): boolean {
  // 57P…: the server ends the connection.
  return !(error instanceof postgres.PostgresError) || error.code.startsWith("57P");
}

async function twice<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!isLost(error)) throw error;
    return await run();
  }
}

function closedError(): Error {
  return new GinnelError("ERR_STORE_CLOSED", "Cannot use a database that is closed");
}
