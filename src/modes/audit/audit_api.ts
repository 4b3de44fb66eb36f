/** The audit log by way of a controller's API. */

import { z } from "zod";
import { GinnelError } from "../../base/errors.ts";
import { AUDIT_EVENTS, type AuditEntry, type AuditQuery } from "../../core/network/audit_entry.ts";
import { type AdminAccess, AdminClient, describeRefusal } from "../admin/admin_client.ts";
import type { AuditReader } from "./audit_reader.ts";

/** Entries asked for at once: the most that the API gives. */
const PAGE = 500;

const Page = z.object({
  data: z.array(z.object({
    seq: z.int().min(1),
    time: z.number(),
    event: z.enum(AUDIT_EVENTS),
    who: z.string(),
    target: z.string(),
    outcome: z.string(),
    detail: z.record(z.string(), z.unknown()),
    source: z.string(),
    hash: z.string(),
    redacted: z.boolean().optional(),
  })).max(PAGE),
});

/** Opens it. */
export async function openAuditApi(access: AdminAccess): Promise<AuditReader> {
  const client = await AdminClient.open(access);
  return {
    place: "the controller",
    head: () => Promise.resolve(undefined),
    entries: () => readAll(client),
    query: (query) => readMatching(client, query),
    [Symbol.asyncDispose]: () => Promise.resolve(client[Symbol.dispose]()),
  };
}

/** The API tells newest first: each page is asked for by where it ends, so that what grows meanwhile moves nothing. */
async function* readAll(client: AdminClient): AsyncGenerator<readonly AuditEntry[]> {
  const [newest] = await readPage(client, { limit: 1 });
  const end = newest?.seq ?? 0;
  for (let first = 1; first <= end; first += PAGE) {
    const before = Math.min(first + PAGE, end + 1);
    const page = await readPage(client, { limit: PAGE, before });
    if (page.some(({ redacted }) => redacted === true)) {
      throw new GinnelError(
        "ERR_AUDIT_REDACTED",
        "Cannot verify the audit log: parts of it are hidden from you",
        {
          hint: "Use a token or an identity with the role admin",
        },
      );
    }
    // Where entries are missing the page reaches further back.
    yield page.filter(({ seq }) => seq >= first).toReversed();
  }
}

async function readMatching(client: AdminClient, query: AuditQuery): Promise<readonly AuditEntry[]> {
  const found: AuditEntry[] = [];
  for (let before = query.before; found.length < query.limit;) {
    const limit = Math.min(PAGE, query.limit - found.length);
    const page = await readPage(client, { ...query, limit, ...(before !== undefined && { before }) });
    found.push(...page);
    if (page.length < limit) break;
    before = page.at(-1)!.seq;
  }
  return found;
}

async function readPage(client: AdminClient, query: AuditQuery) {
  const { from, to, who, target, outcome, event, before, limit } = query;
  const parameters = new URLSearchParams({ limit: String(limit) });
  const values = {
    since: from === undefined ? undefined : new Date(from).toISOString(),
    until: to === undefined ? undefined : new Date(to).toISOString(),
    identity: who,
    service: target,
    outcome,
    event,
    cursor: before?.toString(),
  };
  for (const [name, value] of Object.entries(values)) if (value !== undefined) parameters.set(name, value);
  const answer = await client.request({ method: "GET", path: `/api/v1/audit?${parameters}` });
  if (answer.status !== 200) {
    throw new GinnelError("ERR_AUDIT_REFUSED", `Cannot read the audit log: ${describeRefusal(answer)}`);
  }
  const page = Page.safeParse(answer.json);
  if (!page.success) {
    throw new GinnelError(
      "ERR_CONTROLLER_ANSWER",
      `Cannot read the answer of ${answer.controller}: it is no audit log`,
    );
  }
  return page.data.data;
}
