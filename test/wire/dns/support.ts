/** DNS messages as clients and servers write them. */

import { concat } from "../../../src/base/bytes.ts";
import { type DnsQuery, readDnsQuery } from "../../../src/wire/dns/query.ts";

/** What a query is about; type A, recursion desired, by default. */
export interface QueryOptions {
  readonly id?: number;
  readonly flags?: number;
  readonly type?: number;
  readonly class?: number;
  /** Counts of the four sections. */
  readonly counts?: readonly number[];
  /** Bytes behind the question. */
  readonly tail?: Uint8Array;
}

/** Writes a query for a name; each label as it is given, case included. */
export function query(name: string, options: QueryOptions = {}): Uint8Array<ArrayBuffer> {
  const { id = 0x1234, flags = 0x0100, type = 1, class: class_ = 1, tail = new Uint8Array() } = options;
  const counts = options.counts ?? [1, 0, 0, tail.length > 0 ? 1 : 0];
  return concat([
    words(id, flags, ...counts),
    nameBytes(name),
    words(type, class_),
    tail,
  ]);
}

/** An OPT record. */
export function opt(
  { size = 1_232, version = 0, flags = 0, data = new Uint8Array() }: {
    readonly size?: number;
    readonly version?: number;
    readonly flags?: number;
    readonly data?: Uint8Array;
  } = {},
): Uint8Array {
  return concat([Uint8Array.of(0), words(41, size, version, flags, data.length), data]);
}

/** A name's bytes; labels between dots. */
export function nameBytes(name: string): Uint8Array {
  const labels = name === "" ? [] : name.split(".").map((label) => new TextEncoder().encode(label));
  return concat([...labels.flatMap((label) => [Uint8Array.of(label.length), label]), Uint8Array.of(0)]);
}

/** Numbers of 16 bits. */
export function words(...values: number[]): Uint8Array {
  return new Uint8Array(values.flatMap((value) => [value >> 8, value & 0xff]));
}

/** Reads a query that must be readable. */
export function readQuery(bytes: Uint8Array): DnsQuery {
  const read = readDnsQuery(bytes);
  if (read === undefined) throw new Error("No query");
  return read;
}

/** What a response says, read by hand so that it does not rest on the code under test. */
export interface ReadResponse {
  readonly id: number;
  readonly flags: number;
  readonly rcode: number;
  readonly truncated: boolean;
  readonly authoritative: boolean;
  readonly question: Uint8Array;
  readonly records: readonly ReadRecord[];
  /** Records in each of the three sections. */
  readonly counts: readonly [number, number, number];
}

/** One record of it. */
export interface ReadRecord {
  readonly owner: string;
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
  readonly data: Uint8Array;
}

/** Reads a response, whole to its last byte. */
export function readResponse(bytes: Uint8Array): ReadResponse {
  const at = (offset: number) => (bytes[offset]! << 8) | bytes[offset + 1]!;
  const readName = (offset: number): { text: string; end: number } => {
    const length = bytes[offset]!;
    if (length >= 0xc0) return { text: readName(at(offset) & 0x3fff).text, end: offset + 2 };
    if (length === 0) return { text: "", end: offset + 1 };
    const label = new TextDecoder().decode(bytes.subarray(offset + 1, offset + 1 + length));
    const rest = readName(offset + 1 + length);
    return { text: rest.text === "" ? label : `${label}.${rest.text}`, end: rest.end };
  };
  let offset = 12;
  for (let i = 0; i < at(4); i++) offset = readName(offset).end + 4;
  const question = bytes.subarray(12, offset);
  const counts = [at(6), at(8), at(10)] as const;
  const records: ReadRecord[] = [];
  for (let i = 0; i < counts[0] + counts[1] + counts[2]; i++) {
    const { text, end } = readName(offset);
    const length = at(end + 8);
    records.push({
      owner: text,
      type: at(end),
      class: at(end + 2),
      ttl: at(end + 4) * 0x1_0000 + at(end + 6),
      data: bytes.subarray(end + 10, end + 10 + length),
    });
    offset = end + 10 + length;
  }
  if (offset !== bytes.length) throw new Error(`${bytes.length - offset} bytes behind the last record`);
  const flags = at(2);
  return {
    ...{ id: at(0), flags, rcode: flags & 0x0f, question, records, counts },
    truncated: (flags & 0x0200) !== 0,
    authoritative: (flags & 0x0400) !== 0,
  };
}
