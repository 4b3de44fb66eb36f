/** The audit log as a reader sees it, wherever it is kept. */

import type { AuditEntry, AuditQuery } from "../../core/network/audit_entry.ts";

/** An audit log that can be read. */
export interface AuditReader extends AsyncDisposable {
  /** Where it is, for people. */
  readonly place: string;
  /** All of it in order. */
  entries(): AsyncIterable<readonly AuditEntry[]>;
  /** What matches, newest first. */
  query(query: AuditQuery): Promise<readonly AuditEntry[]>;
}
