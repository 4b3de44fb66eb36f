/**
 * The relay's leases on disk. Records are gathered while the disk is busy and written in batches, each one write and one
 * sync; {@linkcode LeaseJournal.flushed} tells when everything recorded so far survives a crash.
 */

import { errorMessage, GinnelError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Lease } from "../core/ipam.ts";
import { applyRecords, formatRecord, type LeaseRecord, parseRecords } from "./lease_records.ts";
import { holdLock, LockedFile, lookAt } from "./locked_file.ts";

/** How to open a journal. */
export interface LeaseJournalOptions {
  readonly logger: Logger;
  /** Milliseconds between looks at the file for releases by others; default 1 s. */
  readonly pollInterval?: number;
  /** Milliseconds until a failed write is tried again; default 5 s. */
  readonly retryInterval?: number;
}

/** Lines beyond which the file is rewritten: this many, and this many for each lease. */
const SPARE_LINES = 1_000;
const LINES_PER_LEASE = 4;

/** The lease file of a running relay. What cannot be written now is kept, one record for each identity, and tried again. */
export class LeaseJournal implements AsyncDisposable {
  readonly #path: string;
  readonly #logger: Logger;
  readonly #pollInterval: number;
  readonly #retryInterval: number;
  readonly #ownership: Disposable;
  /** What the file says once all is written. */
  readonly #live = new Map<string, Lease>();
  /** Lines it does not have yet, by identity, in the order of recording. */
  #pending = new Map<string, string>();
  /** The file as this process left it: anything else is another's doing. */
  #id = "";
  #size = 0;
  #lines = 0;
  /** Numbers of the last record taken and of the last on disk. */
  #recorded = 0;
  #durable = 0;
  #waiters: Waiter[] = [];
  #work: Promise<void> | undefined;
  #isLookDue = false;
  /** Why the last attempt to write failed; `undefined` when it did not. */
  #fault: unknown;
  #closing: Promise<void> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #poll: ReturnType<typeof setInterval> | undefined;
  #look: Promise<void> | undefined;
  #onForeignRelease: ((identity: string) => void) | undefined;
  #unheard: string[] = [];

  private constructor(path: string, options: LeaseJournalOptions, ownership: Disposable) {
    this.#path = path;
    this.#logger = options.logger;
    this.#pollInterval = options.pollInterval ?? 1_000;
    this.#retryInterval = options.retryInterval ?? 5_000;
    this.#ownership = ownership;
  }

  /** Reads the leases of a file, made when it is not there, and rewrites it without what is outdated or damaged. */
  static async open(
    path: string,
    options: LeaseJournalOptions,
  ): Promise<{ readonly leases: Lease[]; readonly journal: LeaseJournal }> {
    const ownership = await holdLock(`${path}.lock`);
    if (ownership === undefined) {
      throw new GinnelError("ERR_LEASES_IN_USE", `Cannot use ${path}: another relay has it open`, {
        hint: "Stop the other relay, or give each its own file as tunnel.leases",
      });
    }
    try {
      const journal = new LeaseJournal(path, options, ownership);
      using file = await LockedFile.open(path);
      const { records, damaged } = parseRecords(await file.read());
      if (damaged > 0) options.logger.warn("lease_lines_damaged", { file: path, lines: damaged });
      applyRecords(journal.#live, records);
      await journal.#rewrite(file);
      return { leases: [...journal.#live.values()], journal };
    } catch (error) {
      ownership[Symbol.dispose]();
      throw error;
    }
  }

  /** A lease was given, or its identity came or went. */
  record(lease: Lease): void {
    const line = formatRecord({ op: "lease", lease });
    this.#live.set(lease.identity, lease);
    this.#enqueue(lease.identity, line);
  }

  /** A lease ended. */
  release(identity: string): void {
    if (!this.#live.delete(identity)) return;
    this.#enqueue(identity, formatRecord({ op: "release", identity }));
  }

  /** Resolves when everything recorded so far is on disk; rejects when writing it failed, at once while writing fails. */
  flushed(): Promise<void> {
    const upTo = this.#recorded;
    if (this.#durable >= upTo) return Promise.resolve();
    if (this.#retry !== undefined && this.#closing === undefined) return Promise.reject(this.#fault);
    if (this.#closing !== undefined) return Promise.reject(closedError());
    return new Promise((resolve, reject) => this.#waiters.push({ upTo, resolve, reject }));
  }

  /** Tells of every lease that another process, such as `ginnel leases release`, ends in the file from now on. */
  watch(onForeignRelease: (identity: string) => void): void {
    this.#onForeignRelease = onForeignRelease;
    for (const identity of this.#unheard.splice(0)) this.#report(identity);
    if (this.#closing !== undefined || this.#poll !== undefined) return;
    this.#poll = setInterval(() => {
      this.#look ??= this.#lookForChange().finally(() => this.#look = undefined);
    }, this.#pollInterval);
    Deno.unrefTimer(this.#poll);
  }

  /** Writes what is left and closes the file. What could not be written is in the log. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** Closes. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    clearInterval(this.#poll);
    clearTimeout(this.#retry);
    await this.#look;
    await this.#work;
    if (this.#pending.size > 0) await this.#workOff();
    this.#settle(closedError());
    this.#ownership[Symbol.dispose]();
  }

  #enqueue(identity: string, line: string): void {
    if (this.#closing !== undefined) {
      this.#logger.warn("lease_unrecorded", { reason: "closed" });
      return;
    }
    // At the end: an address that went from one identity to another is released before it is given.
    this.#pending.delete(identity);
    this.#pending.set(identity, line);
    this.#recorded++;
    if (this.#retry === undefined) this.#start();
  }

  #start(): void {
    this.#work ??= this.#workOff().finally(() => {
      this.#work = undefined;
      if (this.#isWorkLeft() && this.#retry === undefined && this.#closing === undefined) this.#start();
    });
  }

  #isWorkLeft(): boolean {
    return this.#pending.size > 0 || this.#isLookDue;
  }

  async #workOff(): Promise<void> {
    // One turn later: what is recorded in one go is one batch.
    await Promise.resolve();
    while (this.#isWorkLeft()) {
      const upTo = this.#recorded;
      const batch = this.#pending;
      this.#pending = new Map();
      this.#isLookDue = false;
      try {
        await this.#write(batch);
      } catch (error) {
        this.#fail(batch, error);
        return;
      }
      if (this.#fault !== undefined) this.#logger.info("leases_written_again", { file: this.#path });
      this.#fault = undefined;
      this.#durable = upTo;
      this.#settle();
    }
  }

  async #write(batch: Map<string, string>): Promise<void> {
    using file = await LockedFile.open(this.#path);
    if (file.id !== this.#id || file.size < this.#size) {
      this.#logger.warn("leases_rewritten", { file: this.#path, reason: "somebody replaced the file" });
      await this.#rewrite(file);
      return;
    }
    const { records } = parseRecords(await file.read(this.#size));
    this.#size = file.size;
    this.#hear(records, batch);
    this.#lines += records.length + batch.size;
    if (this.#lines > SPARE_LINES + LINES_PER_LEASE * this.#live.size) {
      await this.#rewrite(file);
    } else if (batch.size > 0) {
      try {
        await file.append([...batch.values()].join(""));
      } finally {
        this.#size = file.size;
      }
    }
  }

  /** What others appended: only a release means something, the relay alone gives leases. */
  #hear(records: readonly LeaseRecord[], batch: Map<string, string>): void {
    for (const record of records) {
      if (record.op !== "release") continue;
      const { identity } = record;
      if (!this.#live.delete(identity)) continue;
      batch.delete(identity);
      this.#pending.delete(identity);
      if (this.#onForeignRelease === undefined) this.#unheard.push(identity);
      else this.#report(identity);
    }
  }

  #report(identity: string): void {
    try {
      this.#onForeignRelease?.(identity);
    } catch (error) {
      this.#logger.error("lease_release_unheeded", { message: errorMessage(error) });
    }
  }

  async #rewrite(file: LockedFile): Promise<void> {
    const leases = [...this.#live.values()];
    const { id, size } = await file.replace(
      leases.map((lease) => formatRecord({ op: "lease", lease })).join(""),
    );
    this.#id = id;
    this.#size = size;
    this.#lines = leases.length;
  }

  /** Puts a batch back, behind nothing newer, for the next attempt. */
  #fail(batch: Map<string, string>, error: unknown): void {
    for (const [identity, line] of this.#pending) {
      batch.delete(identity);
      batch.set(identity, line);
    }
    this.#pending = batch;
    if (this.#fault === undefined) {
      const code = error instanceof GinnelError ? error.code : "ERR_LEASES_UNWRITABLE";
      this.#logger.error("leases_unwritten", { file: this.#path, code, message: errorMessage(error) });
    }
    this.#fault = error;
    this.#settle(error);
    if (this.#closing !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#start();
    }, this.#retryInterval);
    Deno.unrefTimer(this.#retry);
  }

  /** Answers those who wait for what is on disk now; with an error, all of them. */
  #settle(error?: unknown): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) {
      if (waiter.upTo <= this.#durable) waiter.resolve();
      else if (error !== undefined) waiter.reject(error);
      else this.#waiters.push(waiter);
    }
  }

  async #lookForChange(): Promise<void> {
    if (this.#work !== undefined || this.#retry !== undefined) return;
    const found = await lookAt(this.#path).catch((error: unknown) => {
      this.#logger.debug("leases_unseen", { file: this.#path, message: errorMessage(error) });
      return { id: this.#id, size: this.#size };
    });
    if (found?.id === this.#id && found.size === this.#size) return;
    this.#isLookDue = true;
    if (this.#closing === undefined) this.#start();
  }
}

/** Somebody who waits until the records up to a number are on disk. */
interface Waiter {
  readonly upTo: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

function closedError(): GinnelError {
  return new GinnelError("ERR_LEASES_CLOSED", "Cannot write leases: the lease file is closed");
}
