/** What a forwarder must know of a foreign response: whether it answers the query that was sent, and how. */

import { DNS_HEADER } from "./codes.ts";
import type { DnsQuery } from "./query.ts";

/** How a server answered. */
export interface DnsOutcome {
  readonly rcode: number;
  readonly truncated: boolean;
}

const QR_OPCODE = 0xf800;
const RESPONSE = 0x8000;
const TRUNCATED = 0x0200;

/** Reads a response to `query` that was sent with `id`; `undefined` for any other message. */
export function readDnsOutcome(bytes: Uint8Array, query: DnsQuery, id: number): DnsOutcome | undefined {
  if (bytes.length < query.questionEnd || query.questionEnd === DNS_HEADER) return undefined;
  const flags = (bytes[2]! << 8) | bytes[3]!;
  if (((bytes[0]! << 8) | bytes[1]!) !== id || (flags & QR_OPCODE) !== RESPONSE) return undefined;
  if (bytes[4] !== 0 || bytes[5] !== 1) return undefined;
  // RFC 5452 §9.1: the response must be to the question that was asked; servers may fold its case (RFC 4343).
  for (let i = DNS_HEADER; i < query.questionEnd; i++) {
    if (bytes[i] !== query.bytes[i] && fold(bytes[i]!) !== fold(query.bytes[i]!)) return undefined;
  }
  return { rcode: flags & 0x0f, truncated: (flags & TRUNCATED) !== 0 };
}

/** A copy of a message under another id. */
export function withDnsId(bytes: Uint8Array, id: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes);
  copy[0] = id >> 8;
  copy[1] = id;
  return copy;
}

function fold(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte;
}
