/**
 * Tells the controller what a relay sees: audit facts, sessions, and that it lives. While the controller is away facts wait
 * on disk; nothing here ever makes a flow wait.
 */

import { backoffDelay, sleep, withDeadline } from "../../../base/async.ts";
import { errorMessage } from "../../../base/errors.ts";
import type { Logger } from "../../../base/log.ts";
import type { RelayStatus } from "../../../control/store.ts";
import { type ControllerLink, MAX_REPORT_ENTRIES } from "../../../control/sync/link.ts";
import type { AuditFact } from "../../../core/network/audit_entry.ts";
import type { AuditSpool } from "../../../store/audit_spool.ts";
import type { AuditRecord } from "../../../telemetry/audit.ts";
import type { SessionLedger } from "./session_ledger.ts";

/** What a reporter works with. */
export interface RelayReporterOptions {
  readonly link: Pick<ControllerLink, "report">;
  /** Closed together with the reporter. */
  readonly spool: AuditSpool;
  readonly sessions: SessionLedger;
  readonly status: () => Omit<RelayStatus, "sessions" | "lastSeenAt">;
  readonly logger: Logger;
  readonly now?: () => number;
  /** Milliseconds between reports of which nothing but the status is news; default 10 s. */
  readonly interval?: number;
  /** Milliseconds in which news gather; default 100. */
  readonly linger?: number;
}

/** Milliseconds for which a report waits for the disk. */
const DISK_PATIENCE = 1_000;

/** Milliseconds for the last report of a relay that stops. */
const FAREWELL = 2_000;

/** Characters kept of a text that came from a peer. */
const MAX_TEXT = 2_048;

/** Reports until it is closed. */
export class RelayReporter implements AsyncDisposable {
  readonly #options: RelayReporterOptions;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #news = Promise.withResolvers<void>();
  #again = Promise.withResolvers<void>();
  #problem: string | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: RelayReporterOptions) {
    this.#options = options;
    options.sessions.watch(() => this.#news.resolve());
    this.#running = this.#run();
  }

  /** Why the controller hears nothing, for readiness; undefined while it does. */
  get problem(): string | undefined {
    return this.#problem ?? this.#options.spool.problem;
  }

  /** Takes an audit record on its way. Never waits, never throws. */
  audit(record: AuditRecord, time: number): void {
    this.#options.spool.add(toFact(record, { time, source: this.#options.status().identity }));
    this.#news.resolve();
  }

  /** A controller can be reached: what failed is tried again now. */
  retry(): void {
    this.#again.resolve();
  }

  /** Reports once more, where that is possible, and closes. Idempotent. */
  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
    await withDeadline(FAREWELL, () => this.#report({ isDue: true })).catch((error) => this.#fail(error));
    await this.#options.spool.close();
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const pause = (ms: number) => sleep(ms, { signal }).catch(() => undefined);
    const stopped = new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => resolve(), { once: true })
    );
    let isDue = true;
    for (let attempt = 0; !signal.aborted;) {
      await Promise.race([pause(this.#options.linger ?? 100), stopped]);
      if (signal.aborted) break;
      this.#news = Promise.withResolvers();
      this.#again = Promise.withResolvers();
      try {
        await Promise.race([this.#report({ isDue }), stopped]);
        if (this.#problem !== undefined) this.#options.logger.info("reporting_again", {});
        this.#problem = undefined;
        attempt = 0;
      } catch (error) {
        this.#fail(error);
        const waiting = new AbortController();
        const delay = backoffDelay(attempt++, Math.random());
        const signals = AbortSignal.any([signal, waiting.signal]);
        await Promise.race([sleep(delay, { signal: signals }).catch(() => undefined), this.#again.promise]);
        waiting.abort();
        continue;
      }
      const waiting = new AbortController();
      const tick = sleep(this.#options.interval ?? 10_000, {
        signal: AbortSignal.any([signal, waiting.signal]),
      });
      isDue = await Promise.race([this.#news.promise.then(() => false), tick.then(() => true, () => false)]);
      waiting.abort();
    }
  }

  /** Reports all there is; at least the status when it is due. */
  async #report({ isDue }: { readonly isDue: boolean }): Promise<void> {
    const { link, spool, sessions, status, now = Date.now } = this.#options;
    // Facts are reported from disk only: there they keep the name of their batch.
    await withDeadline(DISK_PATIENCE, () => spool.flushed()).catch(() => undefined);
    for (let isNeeded = isDue;; isNeeded = false) {
      const batch = await spool.next();
      const changed = sessions.changed(MAX_REPORT_ENTRIES);
      const reset = sessions.dueReset;
      if (batch === undefined && changed.length === 0 && reset === 0 && !isNeeded) return;
      await link.report({
        batch: batch?.id ?? crypto.randomUUID(),
        audit: batch?.facts ?? [],
        sessions: changed,
        status: { ...status(), sessions: sessions.size, lastSeenAt: now() },
        ...(reset > 0 && { isFirst: true }),
      });
      sessions.reported(changed, { reset });
      if (batch !== undefined) await spool.done(batch);
    }
  }

  #fail(error: unknown): void {
    if (this.#problem === undefined) {
      this.#options.logger.warn("reports_wait", { reason: errorMessage(error) });
    }
    this.#problem = "the controller cannot be told of sessions and audit facts";
  }
}

function toFact(
  { event, who, service, outcome, ...detail }: AuditRecord,
  { time, source }: { readonly time: number; readonly source: string },
): AuditFact {
  return {
    time: Math.trunc(time),
    event,
    who: clean(who),
    target: clean(service),
    outcome: clean(outcome),
    detail: Object.fromEntries(
      Object.entries(detail).map(([key, value]) => [key, typeof value === "string" ? clean(value) : value]),
    ),
    source,
  };
}

/** A text that every database takes: no NUL, no half characters, not without end. */
function clean(text: string): string {
  return text.slice(0, MAX_TEXT).replaceAll("\0", "\ufffd").toWellFormed();
}
