/**
 * Writes the response to a query: header, question as it was asked, records, and an OPT record where the query had
 * one. What does not fit into the asker's room goes without records, marked as truncated.
 */
import {
  DNS_CLASS_IN,
  DNS_HEADER,
  DNS_PLAIN_SIZE,
  DNS_RCODE,
  DNS_TCP_SIZE,
  DNS_TYPE,
  DNS_UDP_SIZE,
  type DnsRcode,
} from "./codes.ts";
import type { DnsQuery } from "./query.ts";

/** One record. */
export interface DnsRecord {
  /** The offset in the message where its owner's name stands: within the question. */
  readonly owner: number;
  readonly type: number;
  /** Seconds. */
  readonly ttl: number;
  /** The record's data as it stands on the wire. */
  readonly data: Uint8Array;
}

/** What a response says. */
export interface DnsReply {
  readonly rcode: DnsRcode;
  /** Whether whoever answers is the authority for the name. */
  readonly authoritative?: boolean;
  readonly answers?: readonly DnsRecord[];
  /** Records of the authority section: the SOA that tells how long "there is none" holds. */
  readonly authority?: readonly DnsRecord[];
}

/** The offset of the question's name. */
export const QUESTION_NAME = DNS_HEADER;

const QR = 0x8000;
const AUTHORITATIVE = 0x0400;
const TRUNCATED = 0x0200;
const RECURSION_AVAILABLE = 0x0080;
/** Opcode, recursion desired and checking disabled are repeated (RFC 1035 §4.1.1, RFC 4035 §3.1.6). */
const REPEATED = 0x7910;
/** Owner as a pointer, type, class, TTL and length of the data. */
const RECORD_HEAD = 12;
const OPT_LENGTH = 11;

/** Bytes of the longest response that the asker takes. */
export function dnsRoom(query: DnsQuery, { viaTcp }: { readonly viaTcp: boolean }): number {
  if (viaTcp) return DNS_TCP_SIZE;
  // RFC 6891 §6.2.3: less than 512 counts as 512.
  return Math.min(Math.max(query.edns?.size ?? DNS_PLAIN_SIZE, DNS_PLAIN_SIZE), DNS_UDP_SIZE);
}

/** Writes a response of at most `room` bytes. */
export function writeDnsResponse(query: DnsQuery, reply: DnsReply, room: number): Uint8Array<ArrayBuffer> {
  const { rcode, answers = [], authority = [] } = reply;
  const optLength = query.edns === undefined ? 0 : OPT_LENGTH;
  const bare = query.questionEnd + optLength;
  const whole = bare + lengthOf(answers) + lengthOf(authority);
  const fits = whole <= room;
  const bytes = new Uint8Array(fits ? whole : bare);
  bytes.set(query.bytes.subarray(0, query.questionEnd));
  const asked = (bytes[2]! << 8) | bytes[3]!;
  const flags = QR | (asked & REPEATED) | RECURSION_AVAILABLE | (rcode & 0x0f) |
    (reply.authoritative ? AUTHORITATIVE : 0) | (fits ? 0 : TRUNCATED);
  put16(bytes, 2, flags);
  put16(bytes, 4, query.questionEnd > DNS_HEADER ? 1 : 0);
  put16(bytes, 6, fits ? answers.length : 0);
  put16(bytes, 8, fits ? authority.length : 0);
  // RFC 6891 §6.1.1: an OPT record is answered by one, and only then.
  put16(bytes, 10, optLength > 0 ? 1 : 0);
  let at = query.questionEnd;
  if (fits) {
    for (const record of answers) at = putRecord(bytes, at, record);
    for (const record of authority) at = putRecord(bytes, at, record);
  }
  if (query.edns !== undefined) {
    // The root's name is the zero byte that is there.
    put16(bytes, at + 1, DNS_TYPE.OPT);
    put16(bytes, at + 3, DNS_UDP_SIZE);
    bytes[at + 5] = rcode >> 4;
    bytes[at + 7] = query.edns.dnssecOk ? 0x80 : 0;
  }
  return bytes;
}

/** Writes a response that says nothing but a code. */
export function writeDnsRefusal(query: DnsQuery, rcode: DnsRcode): Uint8Array<ArrayBuffer> {
  // RFC 6891 §6.1.3: the upper bits of the code stand in an OPT record, which only an asker that knows them sent.
  const said = query.edns === undefined && rcode > 0x0f ? DNS_RCODE.SERVFAIL : rcode;
  return writeDnsResponse(query, { rcode: said }, DNS_TCP_SIZE);
}

/** Data of an SRV record (RFC 2782) whose target is written out; `target` in bytes. */
export function srvData(port: number, target: Uint8Array): Uint8Array<ArrayBuffer> {
  // Priority and weight 0.
  const data = new Uint8Array(6 + target.length);
  put16(data, 4, port);
  data.set(target, 6);
  return data;
}

/** What an SOA record says, names in bytes and times in seconds. */
export interface SoaFields {
  readonly server: Uint8Array;
  readonly mailbox: Uint8Array;
  /** For how long "there is none" holds (RFC 2308 §4). */
  readonly negativeTtl: number;
}

/** Data of an SOA record for a zone without secondary servers. */
export function soaData({ server, mailbox, negativeTtl }: SoaFields): Uint8Array<ArrayBuffer> {
  const names = server.length + mailbox.length;
  const data = new Uint8Array(names + 20);
  data.set(server);
  data.set(mailbox, server.length);
  // Serial, refresh, retry, expire: of interest to secondary servers only.
  [1, 3_600, 600, 86_400, negativeTtl].forEach((value, i) => put32(data, names + 4 * i, value));
  return data;
}

function lengthOf(records: readonly DnsRecord[]): number {
  let length = 0;
  for (const { data } of records) length += RECORD_HEAD + data.length;
  return length;
}

function putRecord(bytes: Uint8Array, at: number, { owner, type, ttl, data }: DnsRecord): number {
  put16(bytes, at, 0xc000 | owner);
  put16(bytes, at + 2, type);
  put16(bytes, at + 4, DNS_CLASS_IN);
  put32(bytes, at + 6, ttl);
  put16(bytes, at + 10, data.length);
  bytes.set(data, at + RECORD_HEAD);
  return at + RECORD_HEAD + data.length;
}

function put16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >> 8;
  bytes[offset + 1] = value;
}

function put32(bytes: Uint8Array, offset: number, value: number): void {
  put16(bytes, offset, value >>> 16);
  put16(bytes, offset + 2, value);
}
