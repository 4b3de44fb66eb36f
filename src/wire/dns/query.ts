/**
 * Reads a query strictly: one question, nothing else but at most one OPT record. Whatever is wrong is a response code,
 * or nothing where not even a response can be addressed.
 *
 *   | ID | Flags | QDCOUNT = 1 | ANCOUNT = 0 | NSCOUNT = 0 | ARCOUNT <= 1 | question | OPT |
 */
import { DNS_CLASS_IN, DNS_HEADER, DNS_RCODE, DNS_TYPE, type DnsRcode } from "./codes.ts";
import { readDnsName, writeDnsName } from "./names.ts";

/** What a query says of itself, as far as it could be read. */
export interface DnsQuery {
  /** The message from its start. */
  readonly bytes: Uint8Array;
  /** The offset behind the question; the header's end where none could be read. */
  readonly questionEnd: number;
  /** The name in lower case; empty for the root, and where no question could be read. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly edns: DnsOptions | undefined;
  /** Why there is no answer to it but this code. */
  readonly fault: DnsRcode | undefined;
}

/** What an OPT record says (RFC 6891 §6.1.2). */
export interface DnsOptions {
  /** Bytes of the longest response that the asker takes over UDP. */
  readonly size: number;
  /** Whether DNSSEC's records are wanted: repeated in the response (RFC 3225 §3). */
  readonly dnssecOk: boolean;
}

const QR = 0x8000;
const OPCODE = 0x7800;
/** In the upper byte of the flags. */
const RECURSION_DESIRED = 0x01;
/** What stands between the name of a question, or of a record, and its end or data. */
const QUESTION_REST = 4;
const RECORD_REST = 10;
/** What a zone transfer, or a question for mail's old records, asks for; nobody here has those. */
const FIRST_META = 249;

/** Reads a query; `undefined` for what must not be answered: a response, or less than a header. */
export function readDnsQuery(bytes: Uint8Array): DnsQuery | undefined {
  if (bytes.length < DNS_HEADER) return undefined;
  const flags = uint16(bytes, 2);
  // Two servers that answered one another's responses would never end.
  if ((flags & QR) !== 0) return undefined;
  const bare = { bytes, questionEnd: DNS_HEADER, name: "", type: 0, class: 0, edns: undefined };
  if ((flags & OPCODE) !== 0) return { ...bare, fault: DNS_RCODE.NOTIMP };
  // RFC 9619 §4: a query with more than one question is malformed.
  if (uint16(bytes, 4) !== 1) return { ...bare, fault: DNS_RCODE.FORMERR };
  const name = readDnsName(bytes, DNS_HEADER);
  if (name === undefined || name.end + QUESTION_REST > bytes.length) {
    return { ...bare, fault: DNS_RCODE.FORMERR };
  }
  const end = name.end + QUESTION_REST;
  const query = {
    bytes,
    questionEnd: end,
    name: name.text,
    type: uint16(bytes, name.end),
    class: uint16(bytes, name.end + 2),
    edns: undefined,
    fault: undefined,
  };
  if (uint16(bytes, 6) !== 0 || uint16(bytes, 8) !== 0) return { ...query, fault: DNS_RCODE.FORMERR };
  const more = uint16(bytes, 10);
  if (more === 0) return bytes.length === end ? judged(query) : { ...query, fault: DNS_RCODE.FORMERR };
  const options = more === 1 ? readOptions(bytes, end) : undefined;
  if (options === undefined) return { ...query, fault: DNS_RCODE.FORMERR };
  const { version, ...edns } = options;
  // RFC 6891 §6.1.3: whoever does not know the version says BADVERS.
  if (version !== 0) return { ...query, edns, fault: DNS_RCODE.BADVERS };
  return judged({ ...query, edns });
}

/** Writes a query for a host name's IPv4 addresses, to a server that asks others. */
export function writeDnsQuery(name: string, id: number): Uint8Array<ArrayBuffer> {
  const text = writeDnsName(name);
  if (text === undefined) throw new RangeError(`Cannot ask for ${JSON.stringify(name)}: no host name`);
  const bytes = new Uint8Array(DNS_HEADER + text.length + QUESTION_REST);
  bytes.set([id >> 8, id, RECURSION_DESIRED, 0, 0, 1]);
  bytes.set(text, DNS_HEADER);
  bytes.set([0, DNS_TYPE.A, 0, DNS_CLASS_IN], DNS_HEADER + text.length);
  return bytes;
}

/** Refuses what is well-formed, but asks for nothing that one name has. */
function judged(query: DnsQuery): DnsQuery {
  const { type } = query;
  const isMeta = type === DNS_TYPE.OPT || (type >= FIRST_META && type < DNS_TYPE.ANY);
  // CHAOS tells what software answers; ANY class has no meaning over UDP.
  return isMeta || query.class !== DNS_CLASS_IN ? { ...query, fault: DNS_RCODE.REFUSED } : query;
}

/** Reads the OPT record that ends the message; `undefined` for anything else. */
function readOptions(bytes: Uint8Array, start: number): DnsOptions & { version: number } | undefined {
  // RFC 6891 §6.1.2: its name must be the root.
  if (bytes[start] !== 0 || start + 1 + RECORD_REST > bytes.length) return undefined;
  const at = start + 1;
  const length = uint16(bytes, at + 8);
  if (uint16(bytes, at) !== DNS_TYPE.OPT || at + RECORD_REST + length !== bytes.length) return undefined;
  for (let i = at + RECORD_REST; i < bytes.length;) {
    if (i + 4 > bytes.length) return undefined;
    i += 4 + uint16(bytes, i + 2);
    if (i > bytes.length) return undefined;
  }
  return {
    size: uint16(bytes, at + 2),
    version: bytes[at + 5]!,
    dnssecOk: (bytes[at + 6]! & 0x80) !== 0,
  };
}

function uint16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}
