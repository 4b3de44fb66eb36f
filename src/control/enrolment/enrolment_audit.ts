/** Enrolments in the audit log. What anybody can cause without a valid token or proof is bounded there. */

import type { AuditFact } from "../../core/network/audit_entry.ts";

/** What happened. */
export interface EnrolmentEvent {
  readonly action: "enrol" | "renew";
  /** SPIFFE ID; undefined: nobody whose claim was verified. */
  readonly identity: string | undefined;
  readonly outcome: "ok" | "denied";
  /** IP address of who asked. */
  readonly remote: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** Refusals of strangers written down in one minute; those above are counted in the next entry. */
const MAX_STRANGERS_PER_MINUTE = 30;

const MINUTE = 60_000;

/** Turns events into audit facts. */
export class EnrolmentAudit {
  readonly #source: string;
  readonly #now: () => number;
  #windowStart = 0;
  #written = 0;
  #unwritten = 0;

  constructor(options: { readonly source: string; readonly now: () => number }) {
    this.#source = options.source;
    this.#now = options.now;
  }

  /** The fact to append; undefined when too many strangers were refused already. */
  fact(event: EnrolmentEvent): AuditFact | undefined {
    const time = this.#now();
    if (event.identity === undefined && !this.#admit(time)) return undefined;
    const unwritten = event.identity === undefined ? this.#unwritten : 0;
    if (event.identity === undefined) this.#unwritten = 0;
    return {
      time,
      event: "enrol",
      who: event.identity ?? "unknown",
      target: event.identity ?? "enrolment",
      outcome: event.outcome,
      detail: {
        action: event.action,
        remote: event.remote,
        ...event.detail,
        ...(unwritten === 0 ? {} : { furtherRefusals: unwritten }),
      },
      source: this.#source,
    };
  }

  #admit(time: number): boolean {
    if (time - this.#windowStart >= MINUTE || time < this.#windowStart) {
      this.#windowStart = time;
      this.#written = 0;
    }
    if (this.#written >= MAX_STRANGERS_PER_MINUTE) {
      this.#unwritten++;
      return false;
    }
    this.#written++;
    return true;
  }
}
