/** What the audit log keeps of an administrator's change: before and after, without secrets, within bounds. */

import { createHash } from "node:crypto";
import type { AuditFact } from "../../core/network/audit_entry.ts";
import type { Resource } from "../../core/network/resources.ts";

/** An administrator's change. */
export interface AdminChange {
  readonly time: number;
  readonly source: string;
  readonly who: string;
  readonly action: string;
  readonly before?: Resource;
  readonly after?: Resource;
  readonly detail?: Readonly<Record<string, unknown>>;
}

/** Larger documents are logged by their digest: their versions stay in the database as they are. */
const MAX_DOCUMENT = 16_384;

/** The audit fact of a change. */
export function adminFact(change: AdminChange): AuditFact {
  const { time, source, who, action, before, after, detail } = change;
  const resource = after ?? before;
  return {
    time,
    event: "admin",
    who,
    target: resource === undefined ? action : `${resource.kind}/${resource.name}`,
    outcome: "ok",
    detail: {
      action,
      ...(resource === undefined ? {} : { id: resource.id }),
      ...(before === undefined ? {} : { before: auditable(before) }),
      ...(after === undefined ? {} : { after: auditable(after) }),
      ...detail,
    },
    source,
  };
}

/** A resource as the log shows it. */
function auditable({ name, kind, spec }: Resource): Readonly<Record<string, unknown>> {
  const shown: Record<string, unknown> = { name, ...spec };
  if (kind === "api-token") delete shown.secretHash;
  if (kind === "egress-policy") shown.document = digestIfLarge(shown.document);
  return shown;
}

function digestIfLarge(document: unknown): unknown {
  const text = JSON.stringify(document);
  if (text.length <= MAX_DOCUMENT) return document;
  return { sha256: createHash("sha256").update(text).digest("hex"), length: text.length };
}
