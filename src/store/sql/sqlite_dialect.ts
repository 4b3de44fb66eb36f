/**
 * kysely on `node:sqlite`: one connection that its users take in turns, so that a transaction is never mixed with
 * another's statements.
 */

import { setImmediate } from "node:timers/promises";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type Kysely,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from "kysely";
import { GinnelError } from "../../base/errors.ts";
import { TurnLock } from "./turn_lock.ts";

/** Prepared statements kept; each takes a few kilobytes. Lists with filters make new texts. */
const MAX_STATEMENTS = 200;

/** Milliseconds to wait for another process that writes. */
const BUSY_TIMEOUT = 10_000;

/** Milliseconds of work after which others get their turn: SQLite answers at once, so that promises alone never let go. */
const MAX_STRETCH = 8;

/** Who writes to which file next, of all connections in this process: waiting in SQLite would stop the process. */
const WRITERS = new Map<string, TurnLock>();

/** How to open the file. */
export interface SqliteDialectOptions {
  readonly path: string;
  /** Refuse every write. */
  readonly isReader: boolean;
  /** Open the file itself for reading only. */
  readonly readOnly: boolean;
}

/** kysely's view of one connection to an SQLite file. */
export class SqliteDialect implements Dialect {
  readonly #options: SqliteDialectOptions;

  constructor(options: SqliteDialectOptions) {
    this.#options = options;
  }

  createDriver(): Driver {
    return new SqliteDriver(this.#options);
  }

  createQueryCompiler(): SqliteQueryCompiler {
    return new SqliteQueryCompiler();
  }

  createAdapter(): SqliteAdapter {
    return new SqliteAdapter();
  }

  // deno-lint-ignore no-explicit-any -- the type kysely gives
  createIntrospector(db: Kysely<any>): SqliteIntrospector {
    return new SqliteIntrospector(db);
  }
}

class SqliteDriver implements Driver {
  readonly #options: SqliteDialectOptions;
  readonly #turns: TurnLock;
  #connection: SqliteConnection | undefined;
  /** When this stretch of work began, by `performance.now()`. */
  #since = 0;

  constructor(options: SqliteDialectOptions) {
    this.#options = options;
    this.#turns = options.isReader ? new TurnLock() : writersOf(options.path);
  }

  init(): Promise<void> {
    this.#connection = new SqliteConnection(this.#options);
    return Promise.resolve();
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    await this.#turns.take();
    if (performance.now() - this.#since > MAX_STRETCH) {
      await setImmediate();
      this.#since = performance.now();
    }
    if (this.#connection !== undefined) return this.#connection;
    this.#turns.give();
    throw new GinnelError("ERR_STORE_CLOSED", "Cannot use a database that is closed");
  }

  beginTransaction(): Promise<void> {
    // IMMEDIATE: a writer that read first could not write any more once another process wrote.
    this.#run(this.#options.isReader ? "BEGIN" : "BEGIN IMMEDIATE");
    return Promise.resolve();
  }

  commitTransaction(): Promise<void> {
    this.#run("COMMIT");
    return Promise.resolve();
  }

  rollbackTransaction(): Promise<void> {
    // Some errors, such as a full disk, have ended it already.
    if (this.#connection?.isInTransaction === true) this.#run("ROLLBACK");
    return Promise.resolve();
  }

  releaseConnection(): Promise<void> {
    this.#turns.give();
    return Promise.resolve();
  }

  async destroy(): Promise<void> {
    await this.#turns.take();
    this.#connection?.close();
    this.#connection = undefined;
    this.#turns.give();
  }

  #run(sql: string): void {
    this.#connection?.exec(sql);
  }
}

class SqliteConnection implements DatabaseConnection {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor({ path, isReader, readOnly }: SqliteDialectOptions) {
    this.#db = new DatabaseSync(path, { readOnly });
    this.#db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT}`);
    if (readOnly) return;
    this.#db.exec("PRAGMA journal_mode = WAL");
    // FULL: a commit is on disk before it is acknowledged, also over a loss of power.
    this.#db.exec("PRAGMA synchronous = FULL");
    this.#db.exec("PRAGMA foreign_keys = ON");
    if (isReader) this.#db.exec("PRAGMA query_only = ON");
  }

  get isInTransaction(): boolean {
    return this.#db.isTransaction;
  }

  exec(sql: string): void {
    this.#db.exec(sql);
  }

  executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const statement = this.#prepare(sql);
    const values = parameters.map(toSqlite);
    if (statement.columns().length > 0) {
      return Promise.resolve({ rows: statement.all(...values) as R[] });
    }
    const { changes } = statement.run(...values);
    return Promise.resolve({ rows: [], numAffectedRows: BigInt(changes) });
  }

  // deno-lint-ignore require-yield -- nothing streams
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    await Promise.reject(new Error("Cannot stream from SQLite"));
  }

  close(): void {
    this.#statements.clear();
    this.#db.close();
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#db.prepare(sql);
    if (this.#statements.size >= MAX_STATEMENTS) {
      const [oldest] = this.#statements.keys();
      if (oldest !== undefined) this.#statements.delete(oldest);
    }
    this.#statements.set(sql, statement);
    return statement;
  }
}

function writersOf(path: string): TurnLock {
  const key = Deno.realPathSync(path);
  const known = WRITERS.get(key) ?? new TurnLock();
  WRITERS.set(key, known);
  return known;
}

function toSqlite(value: unknown): string | number | bigint | null {
  if (value === undefined || value === null) return null;
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value === "string" || typeof value === "number" || typeof value === "bigint") return value;
  throw new TypeError(`Cannot store a value of type ${typeof value}`);
}
