/** The audit log as a reader sees it, wherever it is kept. */

import type { AuditHead } from "../../core/audit/chain.ts";
import type { AuditEntry, AuditQuery } from "../../core/network/audit_entry.ts";

/** An audit log that can be read. */
export interface AuditReader extends AsyncDisposable {
  /** Where it is, for people. */
  readonly place: string;
  /** A head that is written down beside the log; undefined where there is none to see. */
  head(): Promise<AuditHead | undefined>;
  /** All of it in order. */
  entries(): AsyncIterable<readonly AuditEntry[]>;
  /** What matches, newest first. */
  query(query: AuditQuery): Promise<readonly AuditEntry[]>;
}
