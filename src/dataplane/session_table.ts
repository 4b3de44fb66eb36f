/**
 * The sessions of one connector, by their public id. A flow can overtake the last message of its session's
 * handshake, for they travel on different streams; looking a session up therefore waits a moment for it.
 */

import type { Session } from "./session.ts";

/** Bounds of a {@linkcode SessionTable}. */
export interface SessionTableOptions {
  /** How long a lookup waits for a session that is not there yet, in milliseconds. */
  readonly lookupTimeout?: number;
  /** Lookups that may wait at once; beyond it, an unknown session is refused at once. */
  readonly maxWaiting?: number;
}

/** Live sessions by id; a session leaves when it ends. */
export class SessionTable {
  readonly #lookupTimeout: number;
  readonly #maxWaiting: number;
  readonly #sessions = new Map<string, Session>();
  readonly #waiting = new Map<string, Set<(session: Session | undefined) => void>>();
  #waitingCount = 0;

  constructor({ lookupTimeout = 2_000, maxWaiting = 1_024 }: SessionTableOptions = {}) {
    this.#lookupTimeout = lookupTimeout;
    this.#maxWaiting = maxWaiting;
  }

  /** Live sessions. */
  get size(): number {
    return this.#sessions.size;
  }

  /** The live sessions. */
  values(): IterableIterator<Session> {
    return this.#sessions.values();
  }

  /** Takes a session in until it ends. */
  add(session: Session): void {
    this.#sessions.set(session.id, session);
    session.onClose(() => this.#sessions.delete(session.id));
    for (const wake of this.#waiting.get(session.id) ?? []) wake(session);
  }

  /** Finds a session, waiting a moment for one whose handshake is about to end. */
  find(id: string): Session | undefined | Promise<Session | undefined> {
    const session = this.#sessions.get(id);
    if (session !== undefined || this.#waitingCount >= this.#maxWaiting) return session;
    return this.#wait(id);
  }

  #wait(id: string): Promise<Session | undefined> {
    return new Promise((resolve) => {
      const wake = (session: Session | undefined) => {
        clearTimeout(timer);
        this.#waitingCount--;
        waiting.delete(wake);
        if (waiting.size === 0) this.#waiting.delete(id);
        resolve(session);
      };
      const timer = setTimeout(() => wake(undefined), this.#lookupTimeout);
      const waiting = this.#waiting.get(id) ?? new Set();
      waiting.add(wake);
      this.#waiting.set(id, waiting);
      this.#waitingCount++;
    });
  }
}
