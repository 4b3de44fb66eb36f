/**
 * The end-to-end sessions a connector holds, by public id. A flow may overtake the last message of its session's
 * handshake, which travels on another stream: its look-up waits a little.
 */

import type { Session } from "../../dataplane/session.ts";

/** Milliseconds a look-up waits for a session whose handshake is about to end. */
const WAIT_MS = 3_000;

/** Sessions held at once: one for each agent process, some 40 KB each. */
const MAX_SESSIONS = 10_000;

/** Look-ups waiting at once; each holds one stream of a relay. */
const MAX_WAITING = 4_096;

/** Sessions by id. */
export class SessionTable {
  readonly #sessions = new Map<string, Session>();
  readonly #waiting = new Map<string, Set<(session: Session | undefined) => void>>();
  #waiters = 0;

  get isFull(): boolean {
    return this.#sessions.size >= MAX_SESSIONS;
  }

  /** Keeps a session until it ends. */
  add(session: Session): void {
    this.#sessions.set(session.id, session);
    session.closed.then(() => this.#sessions.delete(session.id));
    for (const resolve of this.#waiting.get(session.id) ?? []) resolve(session);
  }

  /** All sessions. */
  all(): Iterable<Session> {
    return this.#sessions.values();
  }

  /** The session of that id; undefined when it does not come in time. */
  find(id: string): Session | undefined | Promise<Session | undefined> {
    const session = this.#sessions.get(id);
    if (session !== undefined || this.#waiters >= MAX_WAITING) return session;
    return this.#wait(id);
  }

  #wait(id: string): Promise<Session | undefined> {
    this.#waiters++;
    const waiters = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiters);
    return new Promise((resolve) => {
      const settle = (session: Session | undefined) => {
        clearTimeout(timer);
        waiters.delete(settle);
        if (waiters.size === 0) this.#waiting.delete(id);
        this.#waiters--;
        resolve(session);
      };
      const timer = setTimeout(() => settle(undefined), WAIT_MS);
      waiters.add(settle);
    });
  }
}
