/** The sessions of a relay, and which of them its controller has yet to hear of. */

import type { SessionRecord } from "../../../control/store.ts";

/** A session that begins. */
export interface SessionStart {
  /** SPIFFE ID. */
  readonly identity: string;
  readonly kind: SessionRecord["kind"];
  /** Public address it came from, `host:port`. */
  readonly remote: string;
  /** Ends it, because an administrator says so. */
  readonly end: () => void;
}

/** How to keep sessions. */
export interface SessionLedgerOptions {
  /** SPIFFE ID of this relay. */
  readonly relay: string;
  readonly now: () => number;
  /** Ended sessions that are kept for a controller that is away; default 10,000. */
  readonly maxClosed?: number;
}

/** A session that lasts. */
export interface LedgerEntry {
  /** Replaces the list of services it has bound; who offers any is a connector. */
  setServices(services: readonly string[]): void;
  /** It is over. Idempotent. */
  close(): void;
}

/** All sessions that are open, and those that ended and have not been reported. */
export class SessionLedger {
  readonly #options: SessionLedgerOptions;
  readonly #records = new Map<string, SessionRecord>();
  readonly #ends = new Map<string, () => void>();
  readonly #changed = new Set<string>();
  /** Grows whenever the controller must be told that all it believes open is over. */
  #resets = 1;
  #heardResets = 0;
  #onChange: () => void = () => {};

  constructor(options: SessionLedgerOptions) {
    this.#options = options;
  }

  /** Sessions that are open. */
  get size(): number {
    return this.#ends.size;
  }

  /**
   * Not 0 when the controller may believe open what ended unheard: before the first report, and after too many ends. To
   * be handed to {@linkcode reported} once the controller was told.
   */
  get dueReset(): number {
    return this.#resets > this.#heardResets ? this.#resets : 0;
  }

  /** A session begins. */
  open({ identity, kind, remote, end }: SessionStart): LedgerEntry {
    const id = crypto.randomUUID();
    const { relay, now } = this.#options;
    const time = now();
    this.#ends.set(id, end);
    this.#set({
      id,
      relay,
      identity,
      kind,
      remote,
      services: [],
      openedAt: time,
      lastSeenAt: time,
      closedAt: null,
    });
    return {
      setServices: (services) =>
        this.#change(id, { services: [...services], ...(services.length > 0 && { kind: "connector" }) }),
      close: () => this.#close(id),
    };
  }

  /** Ends a session by its id; false when there is none. */
  end(id: string): boolean {
    const end = this.#ends.get(id);
    end?.();
    return end !== undefined;
  }

  /** Sessions to report: what changed since it was last. */
  changed(limit: number): readonly SessionRecord[] {
    const records: SessionRecord[] = [];
    for (const id of this.#changed) {
      if (records.length === limit) break;
      records.push(this.#records.get(id)!);
    }
    return records;
  }

  /** The controller has these, and has heard of this reset. */
  reported(records: readonly SessionRecord[], { reset }: { readonly reset: number }): void {
    this.#heardResets = Math.max(this.#heardResets, reset);
    for (const record of records) {
      // It has changed since: the newer state is still to be reported.
      if (this.#records.get(record.id) !== record) continue;
      this.#changed.delete(record.id);
      if (record.closedAt !== null) this.#records.delete(record.id);
    }
  }

  /** The controller may have forgotten what it heard: it is told of all that is open anew. */
  repeat(): void {
    for (const id of this.#ends.keys()) this.#changed.add(id);
    this.#resets++;
    this.#onChange();
  }

  /** Calls back whenever there is something to report. */
  watch(onChange: () => void): void {
    this.#onChange = onChange;
  }

  #close(id: string): void {
    if (!this.#ends.delete(id)) return;
    this.#change(id, { closedAt: this.#options.now() });
    if (this.#records.size - this.#ends.size > (this.#options.maxClosed ?? 10_000)) this.#forgetClosed();
  }

  #change(id: string, change: Partial<SessionRecord>): void {
    const record = this.#records.get(id);
    if (record === undefined || record.closedAt !== null) return;
    this.#set({ ...record, ...change, lastSeenAt: this.#options.now() });
  }

  #set(record: SessionRecord): void {
    this.#records.set(record.id, record);
    this.#changed.add(record.id);
    this.#onChange();
  }

  /** Too many ends to remember: the controller is to close all it knows, and hears of those that are open anew. */
  #forgetClosed(): void {
    for (const [id, { closedAt }] of this.#records) {
      if (closedAt === null) {
        this.#changed.add(id);
      } else {
        this.#records.delete(id);
        this.#changed.delete(id);
      }
    }
    this.#resets++;
  }
}
