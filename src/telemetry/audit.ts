/**
 * The audit log: who connected to what, with what outcome, one JSON line each. Recording never waits: lines go
 * through a bounded queue to a file or to standard output.
 */

import { sleep } from "../base/async.ts";
import { utf8 } from "../base/bytes.ts";
import { errorMessage, GinnelError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";

/** Lines that may wait. At some 300 bytes each that is 5 MB while the disk hangs. */
const DEFAULT_CAPACITY = 16_384;
/** Bytes handed to the file at once. */
const FILE_BATCH = 64 * 1024;
/** Bytes handed to standard output at once: a pipe takes no more without mixing them with other lines. */
const STDOUT_BATCH = 4_096;
/** Milliseconds in which records gather before they are written. */
const LINGER = 10;
/** Milliseconds between attempts while the file cannot be written. */
const RETRY_DELAY = 1_000;

/** What happened. */
export interface AuditRecord {
  readonly event: "connect" | "deny" | "close";
  /** SPIFFE ID of the caller, or what is known of it. */
  readonly who: string;
  /** The service, or what was asked for. */
  readonly service: string;
  readonly outcome: string;
  readonly reason?: string;
  /** Bytes from the caller to the service. */
  readonly bytesIn?: number;
  /** Bytes from the service to the caller. */
  readonly bytesOut?: number;
  /** Packets from the caller, and to it, of an IP flow or a flow of datagrams. */
  readonly packetsIn?: number;
  readonly packetsOut?: number;
  readonly durationMs?: number;
  /** The egress rule that decided. */
  readonly rule?: string;
  /** SPIFFE ID of the connector that serves the flow. */
  readonly connector?: string;
  /** The flow's id, the same in its connect and close lines. */
  readonly flow?: string;
}

/** Takes bytes and returns how many it took, like a file. */
export interface AuditSink {
  readonly batchSize: number;
  write(bytes: Uint8Array): Promise<number>;
  /** Resolves when what was written is safe. */
  sync(): Promise<void>;
  /** Opens the file anew, after its rotation. */
  reopen(): Promise<void>;
  close(): void;
}

/** How to keep the log. */
export interface AuditOptions {
  /** Told once when writing starts to fail, and again only after it worked in between. */
  readonly logger: Logger;
  /** Lines that may wait; further ones are dropped, counted and the count written. */
  readonly capacity?: number;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
  /** Gets every record too, also those that this log has no room for: how records reach a controller. */
  readonly forward?: (record: AuditRecord, time: number) => void;
}

/** The audit log. Queue policy: drop the newest, and say how many. */
export class AuditLog implements AsyncDisposable {
  readonly #sink: AuditSink;
  readonly #options: AuditOptions;
  readonly #closing = new AbortController();
  #lines: string[] = [];
  #dropped = 0;
  /** The last time written, which many records share. */
  #clock = { now: Number.NaN, text: "" };
  /** The file was moved away: open it anew before writing. */
  #isStale = false;
  #problem: string | undefined;
  /** Bytes taken off the queue and not yet written: kept over a failure so that no line is torn. */
  #unwritten: Uint8Array = new Uint8Array();
  #writing: Promise<void> | undefined;

  /** Opens the log on a file (made with mode 0600, appended to), or on standard output without one. */
  static async open(
    config: { readonly file?: string | undefined },
    options: AuditOptions,
  ): Promise<AuditLog> {
    return new AuditLog(
      config.file === undefined ? new StdoutSink() : await FileSink.open(config.file),
      options,
    );
  }

  constructor(sink: AuditSink, options: AuditOptions) {
    this.#sink = sink;
    this.#options = options;
  }

  /** Why records are not being kept, for readiness; undefined when they are. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Queues a record. Never waits, never throws. */
  record(record: AuditRecord): void {
    const now = this.#now();
    this.#options.forward?.(record, now);
    if (this.#closing.signal.aborted || this.#lines.length >= (this.#options.capacity ?? DEFAULT_CAPACITY)) {
      this.#dropped++;
      return;
    }
    this.#push({ level: record.event === "deny" ? "warn" : "info", ...record }, now);
    this.#writing ??= this.#drain();
  }

  /** Goes on in a fresh file from the next line, for log rotation. */
  reopen(): void {
    this.#isStale = true;
    this.#writing ??= this.#drain();
  }

  /** Writes what waits, tries once where writing fails, and closes the file. Idempotent. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    await this.#writing;
    if (this.#lines.length > 0 || this.#unwritten.length > 0) {
      this.#options.logger.error("audit_records_lost", { lines: this.#lines.length + 1 });
    }
    await this.#sink.sync().catch((error) => this.#fail(error));
    this.#sink.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  #push(fields: object, now: number): void {
    if (now !== this.#clock.now) this.#clock = { now, text: new Date(now).toISOString() };
    this.#lines.push(JSON.stringify({ time: this.#clock.text, type: "audit", ...fields }) + "\n");
  }

  async #drain(): Promise<void> {
    // A moment later the records of one burst leave in one write: at 140 flows a second, writing each record by
    // itself took a tenth of the relay's time.
    await sleep(LINGER, { signal: this.#closing.signal }).catch(() => undefined);
    while (this.#isStale || this.#unwritten.length > 0 || this.#takeBatch()) {
      try {
        if (this.#isStale) await this.#sink.reopen();
        this.#isStale = false;
        while (this.#unwritten.length > 0) {
          this.#unwritten = this.#unwritten.subarray(await this.#sink.write(this.#unwritten));
        }
        this.#problem = undefined;
      } catch (error) {
        this.#fail(error);
        if (this.#closing.signal.aborted) break;
        await sleep(RETRY_DELAY, { signal: this.#closing.signal }).catch(() => undefined);
      }
    }
    this.#writing = undefined;
  }

  #takeBatch(): boolean {
    if (this.#dropped > 0 && this.#lines.length === 0) {
      this.#push({ event: "dropped", count: this.#dropped }, this.#now());
      this.#dropped = 0;
    }
    let size = 0;
    let count = 0;
    for (const line of this.#lines) {
      if (count > 0 && size + line.length > this.#sink.batchSize) break;
      size += line.length;
      count++;
    }
    if (count === 0) return false;
    this.#unwritten = utf8(this.#lines.slice(0, count).join(""));
    this.#lines = this.#lines.slice(count);
    return true;
  }

  #fail(error: unknown): void {
    if (this.#problem === undefined) {
      this.#options.logger.error("audit_write_failed", { reason: errorMessage(error) });
    }
    this.#problem = "audit records cannot be written";
  }
}

class FileSink implements AuditSink {
  readonly batchSize = FILE_BATCH;
  readonly #path: string;
  #file: Deno.FsFile;

  private constructor(path: string, file: Deno.FsFile) {
    this.#path = path;
    this.#file = file;
  }

  static async open(path: string): Promise<FileSink> {
    try {
      return new FileSink(path, await openAppend(path));
    } catch (cause) {
      throw new GinnelError("ERR_AUDIT_FILE", `Cannot write the audit file ${path}: ${errorMessage(cause)}`, {
        cause,
        hint: `Change "audit.file" in the config file or make its folder writable`,
      });
    }
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#file.write(bytes);
  }

  sync(): Promise<void> {
    return this.#file.syncData();
  }

  async reopen(): Promise<void> {
    const next = await openAppend(this.#path);
    this.#file.close();
    this.#file = next;
  }

  close(): void {
    this.#file.close();
  }
}

class StdoutSink implements AuditSink {
  readonly batchSize = STDOUT_BATCH;

  write(bytes: Uint8Array): Promise<number> {
    return Deno.stdout.write(bytes);
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  reopen(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    // Standard output belongs to the process.
  }
}

function openAppend(path: string): Promise<Deno.FsFile> {
  return Deno.open(path, { append: true, create: true, mode: 0o600 });
}
