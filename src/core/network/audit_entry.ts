/** What the network's audit log holds: every change by an administrator, and every connect, deny and close. */

/** The kinds of entries. */
export const AUDIT_EVENTS = ["admin", "enrol", "login", "connect", "deny", "close"] as const;

/** One of {@linkcode AUDIT_EVENTS}. */
export type AuditEvent = typeof AUDIT_EVENTS[number];

/** What happened, before it has its place in the log. */
export interface AuditFact {
  /** When it happened, milliseconds since the epoch. */
  readonly time: number;
  readonly event: AuditEvent;
  /** SPIFFE ID, `token:<id>`, or what is known of who acted. */
  readonly who: string;
  /** Service, or `kind/name` of the resource that was changed. */
  readonly target: string;
  /** `ok`, `open`, `closed`, `denied`, a status code… */
  readonly outcome: string;
  /** Everything else: reason, bytes, flow, connector, `before`, `after`. No secrets. */
  readonly detail: Readonly<Record<string, unknown>>;
  /** The relay or controller that saw it. */
  readonly source: string;
}

/** A fact in its place: `hash` covers the fact, `seq` and the hash before it. */
export interface AuditEntry extends AuditFact {
  /** From 1, without gaps. */
  readonly seq: number;
  /** SHA-256, hexadecimal. */
  readonly hash: string;
}

/** Which entries to return; all conditions must hold. */
export interface AuditQuery {
  /** Milliseconds since the epoch, inclusive. */
  readonly from?: number;
  /** Milliseconds since the epoch, exclusive. */
  readonly to?: number;
  readonly who?: string;
  readonly target?: string;
  readonly outcome?: string;
  readonly event?: AuditEvent;
  /** Entries below this number, newest first. */
  readonly before?: number;
  readonly limit: number;
}
