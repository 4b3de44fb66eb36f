/**
 * The lines of a lease file: `{"op":"lease",…}` for a lease given or seen again, `{"op":"release",…}` for one that ended.
 * The last line about an identity holds. A line that a crash tore is skipped, whatever it says.
 */

import { formatIp, type IpAddress, type IpVersion, parseIp } from "../base/ip.ts";
import type { Lease } from "../core/ipam.ts";

/** What one line says. */
export type LeaseRecord =
  | { readonly op: "lease"; readonly lease: Lease }
  | { readonly op: "release"; readonly identity: string };

/** The records of a text, and how many lines said nothing. */
export interface ParsedRecords {
  readonly records: LeaseRecord[];
  readonly damaged: number;
}

/** Longest identity, in characters: as SPIFFE IDs are limited. */
const MAX_IDENTITY = 2048;

/** Writes a record as one line, newline included. */
export function formatRecord(record: LeaseRecord): string {
  if (record.op === "release") return `${JSON.stringify(record)}\n`;
  const { identity, ipv4, ipv6, since, lastSeen } = record.lease;
  return `${
    JSON.stringify({
      op: "lease",
      identity,
      ipv4: ipv4 === null ? null : formatIp(ipv4),
      ipv6: ipv6 === null ? null : formatIp(ipv6),
      since: new Date(since).toISOString(),
      lastSeen: new Date(lastSeen).toISOString(),
    })
  }\n`;
}

/** Reads lines; blank ones count for nothing. */
export function parseRecords(text: string): ParsedRecords {
  const records: LeaseRecord[] = [];
  let damaged = 0;
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const record = parseRecord(line);
    if (record === undefined) damaged++;
    else records.push(record);
  }
  return { records, damaged };
}

/** Brings leases by identity up to date. */
export function applyRecords(leases: Map<string, Lease>, records: Iterable<LeaseRecord>): void {
  for (const record of records) {
    if (record.op === "release") leases.delete(record.identity);
    else leases.set(record.lease.identity, record.lease);
  }
}

function parseRecord(line: string): LeaseRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { op, identity, ipv4, ipv6, since, lastSeen } = value as Readonly<Record<string, unknown>>;
  if (typeof identity !== "string" || identity === "" || identity.length > MAX_IDENTITY) return undefined;
  if (op === "release") return { op, identity };
  if (op !== "lease") return undefined;
  const lease = {
    identity,
    ipv4: readAddress(ipv4, 4),
    ipv6: readAddress(ipv6, 6),
    since: readTime(since),
    lastSeen: readTime(lastSeen),
  };
  return isWhole(lease) ? { op, lease } : undefined;
}

/** An address or null; `undefined` for anything else. */
function readAddress(value: unknown, version: IpVersion): IpAddress | null | undefined {
  if (value === null) return null;
  const address = typeof value === "string" ? parseIp(value) : undefined;
  return address?.version === version ? address : undefined;
}

function readTime(value: unknown): number | undefined {
  const time = typeof value === "string" ? Date.parse(value) : NaN;
  return Number.isNaN(time) ? undefined : time;
}

function isWhole(
  lease: { readonly [Field in keyof Lease]: Lease[Field] | undefined },
): lease is Lease {
  return Object.values(lease).every((value) => value !== undefined);
}
