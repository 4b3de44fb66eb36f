/**
 * Audit facts on their way to the controller. They wait on disk: over restarts, over crashes, and while no controller can
 * be reached. Batches keep their name and content until they are done with, so that one that arrives twice counts once.
 * When the files are full the oldest go; how many facts were lost is a fact of its own.
 */

import { join } from "node:path";
import { sleep } from "../base/async.ts";
import { errorMessage, GinnelError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { AuditFact } from "../core/network/audit_entry.ts";
import { holdLock } from "./locked_file.ts";
import { readSpoolCursor, type SpoolCursor, type SpoolRange, writeSpoolCursor } from "./spool_cursor.ts";
import { formatFact, parseFact } from "./spool_facts.ts";
import { SpoolSegments } from "./spool_segments.ts";

/** How to keep facts. */
export interface AuditSpoolOptions {
  readonly logger: Logger;
  /** Who tells of lost facts: the relay's SPIFFE ID. */
  readonly source: string;
  readonly now?: () => number;
  /** Bytes on disk beyond which the oldest facts go; default 256 MiB, some 800,000 facts. */
  readonly maxBytes?: number;
  /** Facts that may wait for the disk; default 16,384. */
  readonly capacity?: number;
  /** Milliseconds until a failed write is tried again; default 1 s. */
  readonly retryInterval?: number;
}

/** Facts to report together. */
export interface SpoolBatch {
  /** The same when it is given again, in another process too. */
  readonly id: string;
  readonly facts: readonly AuditFact[];
  /** Another process may have reported it. */
  readonly isRepeated: boolean;
}

const MAX_BYTES = 256 << 20;
const CAPACITY = 16_384;
/** Lines and bytes of one batch: within what a controller takes in one report. */
const BATCH = { maxLines: 1_000, maxBytes: 512 * 1024 };
/** Name of the file that says how far the controller has them. */
const CURSOR = "cursor.json";
/** Lines written at once. */
const WRITE_LINES = 1_000;
/** Milliseconds in which facts gather before they are written. */
const LINGER = 10;

/** The facts that wait. What is lost is counted by reason: `overflow`, `full`, `damaged`. */
export class AuditSpool implements AsyncDisposable {
  readonly #folder: string;
  readonly #options: AuditSpoolOptions;
  readonly #lock: Disposable;
  readonly #segments: SpoolSegments;
  /** Tells this queue's batches from those of any other. */
  readonly #name: string;
  readonly #closing = new AbortController();
  readonly #lost = new Map<string, number>();
  /** All that was lost since the start: notices of loss may be lost too, and the last one says it all. */
  readonly #lostInAll = new Map<string, number>();
  #queue: AuditFact[] = [];
  #recorded = 0;
  #durable = 0;
  #waiters: { readonly upTo: number; readonly resolve: () => void }[] = [];
  #writing: Promise<void> | undefined;
  /** File operations one after another. */
  #turn: Promise<unknown> = Promise.resolve();
  #acked: number;
  /** The batch that an earlier run may have reported. */
  #repeated: SpoolRange | undefined;
  #current: { readonly batch: SpoolBatch; readonly range: SpoolRange } | undefined;
  #isCursorOld = false;
  #problem: string | undefined;

  private constructor(folder: string, options: AuditSpoolOptions, parts: {
    readonly lock: Disposable;
    readonly segments: SpoolSegments;
    readonly cursor: SpoolCursor;
  }) {
    this.#folder = folder;
    this.#options = options;
    this.#lock = parts.lock;
    this.#segments = parts.segments;
    this.#name = parts.cursor.name;
    this.#acked = parts.cursor.acked;
    this.#repeated = parts.cursor.sending;
  }

  /** Opens the queue in a folder, made with mode 0700 when it is not there. */
  static async open(folder: string, options: AuditSpoolOptions): Promise<AuditSpool> {
    await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
    const lock = await holdLock(join(folder, "lock"));
    if (lock === undefined) {
      throw new GinnelError("ERR_SPOOL_IN_USE", `Cannot use ${folder}: another relay has it open`, {
        hint: "Stop the other relay, or give each its own folder as data",
      });
    }
    try {
      const cursor = await readSpoolCursor(join(folder, CURSOR), options.logger);
      const next = Math.max(cursor.acked, cursor.sending?.last ?? 0) + 1;
      const segments = await SpoolSegments.open(folder, { next });
      return new AuditSpool(folder, options, { lock, segments, cursor });
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** Facts on disk that are not done with. */
  get waiting(): number {
    return this.#segments.countFrom(this.#acked + 1);
  }

  /** Why facts are not kept now, for readiness; undefined while they are. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Adds a fact. Never waits, never throws. */
  add(fact: AuditFact): void {
    if (this.#closing.signal.aborted || this.#queue.length >= (this.#options.capacity ?? CAPACITY)) {
      this.#lose("overflow", 1);
      return;
    }
    this.#queue.push(fact);
    this.#recorded++;
    this.#writing ??= this.#drain();
  }

  /** Resolves when everything added so far survives a crash. */
  flushed(): Promise<void> {
    if (this.#durable >= this.#recorded) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ upTo: this.#recorded, resolve }));
  }

  /** The oldest facts on disk; the same until {@linkcode done} is called for them. Undefined: there are none. */
  next(): Promise<SpoolBatch | undefined> {
    return this.#inTurn(async () => {
      if (this.#current !== undefined) return this.#current.batch;
      for (;;) {
        const repeated = this.#repeated;
        this.#repeated = undefined;
        const found = await this.#read(repeated);
        if (found === undefined && repeated === undefined) {
          if (this.#isCursorOld) await this.#writeCursor(undefined);
          return undefined;
        }
        if (found === undefined) {
          this.#acked = Math.max(this.#acked, repeated!.last);
          continue;
        }
        const { range, facts } = found;
        if (facts.length === 0) {
          this.#acked = range.last;
          continue;
        }
        if (repeated === undefined) await this.#writeCursor(range);
        const id = `${this.#name}-${range.first}-${range.last}`;
        this.#current = { range, batch: { id, facts, isRepeated: repeated !== undefined } };
        return this.#current.batch;
      }
    });
  }

  /** The controller has the batch that was given last. */
  done(batch: SpoolBatch): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#current?.batch !== batch) return;
      this.#acked = this.#current.range.last;
      this.#current = undefined;
      this.#isCursorOld = true;
      await this.#segments.removeBelow(this.#acked + 1);
    });
  }

  /** Writes what waits, once, and closes the files. Idempotent. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    await this.#writing;
    if (this.#queue.length > 0) this.#options.logger.error("audit_facts_lost", { facts: this.#queue.length });
    await this.#inTurn(async () => {
      if (this.#isCursorOld) await this.#writeCursor(this.#current?.range);
    }).catch((error) => this.#fail(error));
    this.#segments[Symbol.dispose]();
    this.#lock[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #drain(): Promise<void> {
    await sleep(LINGER, { signal: this.#closing.signal }).catch(() => undefined);
    while (this.#queue.length > 0 || this.#lost.size > 0) {
      const losses = this.#takeLosses();
      const facts = this.#queue.slice(0, WRITE_LINES);
      try {
        await this.#inTurn(() => this.#write([...losses.facts, ...facts].map(formatFact)));
        this.#problem = undefined;
      } catch (error) {
        losses.putBack();
        this.#fail(error);
        if (this.#closing.signal.aborted) break;
        await sleep(this.#options.retryInterval ?? 1_000, { signal: this.#closing.signal }).catch(() =>
          undefined
        );
        continue;
      }
      this.#queue.splice(0, facts.length);
      this.#durable += facts.length;
      const isDone = ({ upTo }: { readonly upTo: number }) => upTo <= this.#durable;
      for (const waiter of this.#waiters.filter(isDone)) waiter.resolve();
      this.#waiters = this.#waiters.filter((waiter) => !isDone(waiter));
    }
    this.#writing = undefined;
  }

  async #write(lines: readonly string[]): Promise<void> {
    const maxBytes = this.#options.maxBytes ?? MAX_BYTES;
    const segmentBytes = Math.ceil(maxBytes / 16);
    const size = lines.reduce((sum, line) => sum + line.length, 0);
    while (this.#segments.bytes + size > maxBytes) {
      // What is being reported stays: it counts as delivered or comes again whole.
      const except = this.#current?.range.last ?? this.#repeated?.last ?? 0;
      const removed = await this.#segments.removeOldest({ except });
      if (removed === undefined) break;
      this.#lose("full", removed.next - Math.max(removed.first, this.#acked + 1));
    }
    await this.#segments.append(lines, { segmentBytes });
  }

  /** Reads a batch: the facts of a range that was chosen before, or the next ones. */
  async #read(
    range: SpoolRange | undefined,
  ): Promise<{ readonly range: SpoolRange; readonly facts: readonly AuditFact[] } | undefined> {
    const limits = range === undefined ? BATCH : { ...BATCH, maxLines: range.last - range.first + 1 };
    const found = await this.#segments.read(range?.first ?? this.#acked + 1, limits);
    if (found === undefined || (range !== undefined && found.first > range.last)) return undefined;
    const lines = range === undefined ? found.lines : found.lines.slice(0, range.last - found.first + 1);
    const facts = lines.map(parseFact).filter((fact) => fact !== undefined);
    if (facts.length < lines.length) this.#lose("damaged", lines.length - facts.length);
    return { range: range ?? { first: found.first, last: found.first + lines.length - 1 }, facts };
  }

  async #writeCursor(sending: SpoolRange | undefined): Promise<void> {
    await writeSpoolCursor(join(this.#folder, CURSOR), {
      name: this.#name,
      acked: this.#acked,
      ...(sending !== undefined && { sending }),
    });
    this.#isCursorOld = false;
  }

  #lose(reason: string, count: number): void {
    if (this.#lost.size === 0) this.#options.logger.error("audit_facts_lost", { reason });
    this.#lost.set(reason, (this.#lost.get(reason) ?? 0) + count);
    this.#lostInAll.set(reason, (this.#lostInAll.get(reason) ?? 0) + count);
    if (!this.#closing.signal.aborted) this.#writing ??= this.#drain();
  }

  #takeLosses(): { readonly facts: readonly AuditFact[]; putBack(): void } {
    const lost = [...this.#lost];
    this.#lost.clear();
    const { source, now = Date.now } = this.#options;
    const facts = lost.map(([reason, count]): AuditFact => ({
      time: now(),
      event: "close",
      who: source,
      target: "audit/relay",
      outcome: "lost",
      detail: { reason, count, sinceStart: this.#lostInAll.get(reason) },
      source,
    }));
    const putBack = () => {
      for (const [reason, count] of lost) this.#lost.set(reason, (this.#lost.get(reason) ?? 0) + count);
    };
    return { facts, putBack };
  }

  #fail(error: unknown): void {
    if (this.#problem === undefined) {
      this.#options.logger.error("audit_spool_failed", { folder: this.#folder, reason: errorMessage(error) });
    }
    this.#problem = "audit facts for the controller cannot be kept";
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}
