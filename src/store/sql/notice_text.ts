/** Notices as the text in which PostgreSQL passes them on. */

import type { Notice } from "../../control/store.ts";

/** Bytes that PostgreSQL takes in one notification. */
const MAX_BYTES = 7_999;

/** A notice, and which store sent it. */
export interface SentNotice {
  readonly from: string;
  readonly notice: Notice;
}

/** Writes it; undefined when it is too long: no relay has a client or a session of such a name. */
export function writeNotice(sent: SentNotice): string | undefined {
  const text = JSON.stringify(sent);
  return new TextEncoder().encode(text).length > MAX_BYTES ? undefined : text;
}

/** Reads it; undefined when another version, or somebody else, sent what is not known here. */
export function readNotice(text: string): SentNotice | undefined {
  let sent: unknown;
  try {
    sent = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { from, notice } = fieldsOf(sent);
  const { type, clientId, relay, session } = fieldsOf(notice);
  if (typeof from !== "string") return undefined;
  if (type === "released" && typeof clientId === "string") return { from, notice: { type, clientId } };
  if (type === "ended" && typeof relay === "string" && typeof session === "string") {
    return { from, notice: { type, relay, session } };
  }
  return undefined;
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}
