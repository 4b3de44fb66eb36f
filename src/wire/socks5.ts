/**
 * SOCKS protocol version 5 (RFC 1928), the proxy's side of CONNECT and UDP ASSOCIATE without authentication. Decoders
 * return `undefined` while bytes are missing and throw `ProtocolError`, whose `wireCode` is the reply to send.
 */

import type { HostPort } from "../base/address.ts";
import { ProtocolError } from "../base/errors.ts";
import { ipToBytes, parseIp } from "../base/ip.ts";

/** The version byte that opens every message. */
const SOCKS_VERSION = 0x05;

/** Method: no authentication required. */
export const NO_AUTHENTICATION_REQUIRED = 0x00;

/** Method selection that ends the connection: none of the offered methods will do. */
export const NO_ACCEPTABLE_METHODS = 0xff;

/** The supported commands. */
const COMMANDS: ReadonlyMap<number, SocksRequest["command"]> = new Map([[0x01, "connect"], [
  0x03,
  "associate",
]]);

/** Reply codes, RFC 1928 §6. */
export const SOCKS_REPLY = {
  succeeded: 0x00,
  generalFailure: 0x01,
  notAllowed: 0x02,
  networkUnreachable: 0x03,
  hostUnreachable: 0x04,
  connectionRefused: 0x05,
  ttlExpired: 0x06,
  commandNotSupported: 0x07,
  addressTypeNotSupported: 0x08,
} as const;

/** One of {@linkcode SOCKS_REPLY}. */
export type SocksReply = typeof SOCKS_REPLY[keyof typeof SOCKS_REPLY];

/** The client's opening message. */
export interface SocksGreeting {
  readonly methods: readonly number[];
  /** Bytes the message took. */
  readonly length: number;
}

/** A place as SOCKS names it. An address literal is text in its usual form, without brackets. */
interface SocksAddress {
  readonly addressType: "ipv4" | "domain" | "ipv6";
  readonly host: string;
  readonly port: number;
  /** Bytes of the message up to and with the address. */
  readonly length: number;
}

/** What a client wants: to go to a place, or to send datagrams from one (which is zeros when it does not know it yet). */
export interface SocksRequest extends SocksAddress {
  readonly command: "connect" | "associate";
}

/** A client's datagram: `length` bytes of header, then what is for the place it names. */
export interface SocksDatagram extends SocksAddress {
  /** Zero unless the datagram is part of a larger one. */
  readonly fragment: number;
}

/*
 * Greeting:        VER 1 | NMETHODS 1 | METHODS 1..255
 * Method choice:   VER 1 | METHOD 1
 * Request, reply:  VER 1 | CMD or REP 1 | RSV 1 | ATYP 1 | ADDR 4, 1+n or 16 | PORT 2
 * Datagram:        RSV 2 | FRAG 1 | ATYP 1 | ADDR 4, 1+n or 16 | PORT 2 | DATA
 */
const ATYP_IPV4 = 0x01;
const ATYP_DOMAIN = 0x03;
const ATYP_IPV6 = 0x04;
const REQUEST_HEAD = 4;

/** Reads the method offer of a client. */
export function decodeSocksGreeting(bytes: Uint8Array): SocksGreeting | undefined {
  requireVersion(bytes);
  const count = bytes[1];
  if (count === undefined) return undefined;
  // RFC 1928 §3: NMETHODS is 1 to 255.
  if (count === 0) throw malformed("A SOCKS greeting offers no method");
  const length = 2 + count;
  if (bytes.length < length) return undefined;
  return { methods: [...bytes.subarray(2, length)], length };
}

/** Writes the proxy's choice of method. */
export function encodeSocksMethod(method: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(SOCKS_VERSION, method);
}

/** Reads a request; it takes at most 262 bytes, which bounds what a client can make a proxy hold. */
export function decodeSocksRequest(bytes: Uint8Array): SocksRequest | undefined {
  requireVersion(bytes);
  if (bytes.length < REQUEST_HEAD) return undefined;
  const command = COMMANDS.get(bytes[1]!);
  if (command === undefined) {
    throw refusal(SOCKS_REPLY.commandNotSupported, `Unsupported SOCKS command ${bytes[1]}`);
  }
  // RFC 1928 §6: fields marked RESERVED must be set to X'00'.
  if (bytes[2] !== 0) throw malformed("The reserved byte of a SOCKS request is not zero");
  const address = readPlace(bytes);
  return address === undefined ? undefined : { command, ...address };
}

/** Reads the header of a datagram; undefined when it is none, which calls for no answer. */
export function decodeSocksDatagram(bytes: Uint8Array): SocksDatagram | undefined {
  // RFC 1928 §7: RSV is X'0000'.
  if (bytes.length < REQUEST_HEAD || bytes[0] !== 0 || bytes[1] !== 0) return undefined;
  try {
    const address = readPlace(bytes);
    return address === undefined ? undefined : { fragment: bytes[2]!, ...address };
  } catch (error) {
    if (error instanceof ProtocolError) return undefined;
    throw error;
  }
}

/** Writes a reply. Without a bound address it is 0.0.0.0:0: no socket of the proxy stands for a flow. */
export function encodeSocksReply(reply: SocksReply, bound?: HostPort): Uint8Array<ArrayBuffer> {
  const address = bound === undefined ? undefined : parseIp(bound.hostname);
  const ip = address === undefined ? new Uint8Array(4) : ipToBytes(address);
  const port = bound?.port ?? 0;
  const type = ip.length === 4 ? ATYP_IPV4 : ATYP_IPV6;
  return Uint8Array.of(SOCKS_VERSION, reply, 0, type, ...ip, port >> 8, port & 255);
}

/** Reads type, address and port, which begin at the same place in every message. */
function readPlace(bytes: Uint8Array): SocksAddress | undefined {
  switch (bytes[3]) {
    case ATYP_IPV4:
      return readAddress(bytes, { addressType: "ipv4", start: REQUEST_HEAD, size: 4, read: ipv4Text });
    case ATYP_IPV6:
      return readAddress(bytes, { addressType: "ipv6", start: REQUEST_HEAD, size: 16, read: ipv6Text });
    case ATYP_DOMAIN: {
      const size = bytes[REQUEST_HEAD];
      if (size === undefined) return undefined;
      if (size === 0) throw malformed("A SOCKS request names an empty domain");
      return readAddress(bytes, { addressType: "domain", start: REQUEST_HEAD + 1, size, read: domainText });
    }
    default:
      throw refusal(SOCKS_REPLY.addressTypeNotSupported, `Unsupported SOCKS address type ${bytes[3]}`);
  }
}

interface AddressLayout {
  readonly addressType: SocksAddress["addressType"];
  readonly start: number;
  readonly size: number;
  readonly read: (bytes: Uint8Array) => string;
}

function readAddress(bytes: Uint8Array, layout: AddressLayout): SocksAddress | undefined {
  const end = layout.start + layout.size;
  const length = end + 2;
  if (bytes.length < length) return undefined;
  const host = layout.read(bytes.subarray(layout.start, end));
  const port = bytes[end]! * 256 + bytes[end + 1]!;
  return { addressType: layout.addressType, host, port, length };
}

function domainText(bytes: Uint8Array): string {
  // A name is printable ASCII; anything else could only confuse what comes after.
  if (bytes.some((byte) => byte <= 0x20 || byte >= 0x7f)) {
    throw malformed("A SOCKS request names a domain that is not printable ASCII");
  }
  return String.fromCharCode(...bytes);
}

function ipv4Text(bytes: Uint8Array): string {
  return bytes.join(".");
}

function ipv6Text(bytes: Uint8Array): string {
  const groups: string[] = [];
  for (let i = 0; i < bytes.length; i += 2) groups.push((bytes[i]! * 256 + bytes[i + 1]!).toString(16));
  return groups.join(":");
}

function requireVersion(bytes: Uint8Array): void {
  if (bytes.length > 0 && bytes[0] !== SOCKS_VERSION) throw malformed("Not a SOCKS 5 message");
}

function malformed(message: string): ProtocolError {
  return refusal(SOCKS_REPLY.generalFailure, message);
}

function refusal(reply: SocksReply, message: string): ProtocolError {
  return new ProtocolError("connection", reply, message);
}
