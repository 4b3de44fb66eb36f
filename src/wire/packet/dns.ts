/**
 * The addresses that a DNS response (RFC 1035 §4) gives for the name it was asked. Nothing of it is trusted but its form;
 * whose word it is must be known from the flow it came by.
 *
 *   | ID | Flags | QDCOUNT | ANCOUNT | NSCOUNT | ARCOUNT | question | answers | authority | additional |
 */

import { type IpAddress, ipFromBytes } from "../../base/ip.ts";
import { readCompressedName } from "../dns/names.ts";

/** What a response says. */
export interface DnsAnswer {
  /** The name that was asked for, in lower case, without the final dot. */
  readonly question: string;
  /** The addresses that it has, perhaps by way of aliases; none when it has none of the type that was asked for. */
  readonly addresses: readonly DnsAddress[];
}

/** One address, and for how many seconds it holds. */
export interface DnsAddress {
  readonly address: IpAddress;
  readonly ttl: number;
}

/** Answers that are read; those behind are not. */
const MAX_RECORDS = 64;
/** Aliases that are followed. */
const MAX_ALIASES = 16;

const HEADER = 12;
/** QR, opcode and RCODE: a response to a standard query, without an error. */
const FLAGS_MASK = 0xf80f;
const FLAGS_ANSWER = 0x8000;

const CLASS_IN = 1;
const TYPE_A = 1;
const TYPE_CNAME = 5;
const TYPE_AAAA = 28;
/** RFC 2181 §8: a TTL of 32 bits counts as 0. */
const MAX_TTL = 0x7fff_ffff;
/** The words in front of an IPv4 address that stands as IPv6: no packet has such an address. */
const MAPPED = 0xffffn;

/** Reads the payload of a UDP datagram from port 53; `undefined` unless it is a well-formed answer to one question. */
export function readDnsAnswer(bytes: Uint8Array, start: number, end: number): DnsAnswer | undefined {
  if (start < 0 || end > bytes.length || end - start < HEADER) return undefined;
  const message = new Message(bytes.subarray(start, end));
  if ((message.uint16(2) & FLAGS_MASK) !== FLAGS_ANSWER || message.uint16(4) !== 1) return undefined;
  const records = Math.min(message.uint16(6), MAX_RECORDS);
  const question = message.takeName(HEADER);
  if (question === undefined || question.text === undefined || message.length - question.end < 4) {
    return undefined;
  }
  if (message.uint16(question.end + 2) !== CLASS_IN) return undefined;
  const found: { owner: string; ttl: number; address: IpAddress }[] = [];
  const aliases = new Map<string, { target: string; ttl: number }>();
  let offset = question.end + 4;
  for (let i = 0; i < records; i++) {
    const owner = message.takeName(offset);
    if (owner === undefined || message.length - owner.end < 10) return undefined;
    const type = message.uint16(owner.end);
    const isInternet = message.uint16(owner.end + 2) === CLASS_IN;
    const ttl = message.ttl(owner.end + 4);
    const length = message.uint16(owner.end + 8);
    const data = owner.end + 10;
    offset = data + length;
    if (offset > message.length) return undefined;
    if (!isInternet) continue;
    if (type === TYPE_CNAME) {
      const target = message.takeName(data);
      if (target === undefined || target.end !== offset) return undefined;
      if (owner.text === undefined || target.text === undefined || aliases.has(owner.text)) continue;
      aliases.set(owner.text, { target: target.text, ttl });
    } else if (type === TYPE_A || type === TYPE_AAAA) {
      if (length !== (type === TYPE_A ? 4 : 16)) return undefined;
      const address = ipFromBytes(message.bytes.subarray(data, offset));
      if (address.version === 6 && address.value >> 32n === MAPPED) continue;
      if (owner.text !== undefined) found.push({ owner: owner.text, ttl, address });
    }
  }
  return { question: question.text, addresses: followAliases(question.text, aliases, found) };
}

/** Takes the addresses of a name, or those at the end of its aliases, which hold only as long as each alias does. */
function followAliases(
  question: string,
  aliases: ReadonlyMap<string, { target: string; ttl: number }>,
  found: readonly { owner: string; ttl: number; address: IpAddress }[],
): DnsAddress[] {
  let name = question;
  let longest = MAX_TTL;
  for (let i = 0; i < MAX_ALIASES; i++) {
    const alias = aliases.get(name);
    if (alias === undefined) break;
    name = alias.target;
    longest = Math.min(longest, alias.ttl);
  }
  // Aliases in a circle lead nowhere.
  if (aliases.has(name)) return [];
  return found.filter(({ owner }) => owner === name)
    .map(({ address, ttl }) => ({ address, ttl: Math.min(ttl, longest) }));
}

/** A name, and the offset behind where it stands; no text when it holds other characters than those of host names. */
interface Name {
  readonly text: string | undefined;
  readonly end: number;
}

/** A DNS message; whoever reads a number has checked that it is there. */
class Message {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get length(): number {
    return this.bytes.length;
  }

  uint16(offset: number): number {
    return (this.bytes[offset]! << 8) | this.bytes[offset + 1]!;
  }

  ttl(offset: number): number {
    const seconds = this.uint16(offset) * 0x1_0000 + this.uint16(offset + 2);
    return seconds > MAX_TTL ? 0 : seconds;
  }

  /** Reads the name at `offset`; `undefined` when it is malformed. */
  takeName(offset: number): Name | undefined {
    const name = readCompressedName(this.bytes, offset);
    if (name === undefined) return undefined;
    const isHost = name.text !== "" && !name.text.includes("\\");
    return { text: isHost ? name.text : undefined, end: name.end };
  }
}
