/**
 * SOCKS protocol version 5 (RFC 1928), the proxy's side of CONNECT without authentication. Decoders return
 * `undefined` while bytes are missing and throw `ProtocolError`, whose `wireCode` is the reply to send.
 */

import { ProtocolError } from "../base/errors.ts";

/** The version byte that opens every message. */
const SOCKS_VERSION = 0x05;

/** Method: no authentication required. */
export const NO_AUTHENTICATION_REQUIRED = 0x00;

/** Method selection that ends the connection: none of the offered methods will do. */
export const NO_ACCEPTABLE_METHODS = 0xff;

/** The one supported command. */
const COMMAND_CONNECT = 0x01;

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

/** Where a client wants to go. An address literal is text in its usual form, without brackets. */
export interface SocksRequest {
  readonly addressType: "ipv4" | "domain" | "ipv6";
  readonly host: string;
  readonly port: number;
  /** Bytes the message took. */
  readonly length: number;
}

/*
 * Greeting:        VER 1 | NMETHODS 1 | METHODS 1..255
 * Method choice:   VER 1 | METHOD 1
 * Request, reply:  VER 1 | CMD or REP 1 | RSV 1 | ATYP 1 | ADDR 4, 1+n or 16 | PORT 2
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

/** Reads a CONNECT request; it takes at most 262 bytes, which bounds what a client can make a proxy hold. */
export function decodeSocksRequest(bytes: Uint8Array): SocksRequest | undefined {
  requireVersion(bytes);
  if (bytes.length < REQUEST_HEAD) return undefined;
  if (bytes[1] !== COMMAND_CONNECT) {
    throw refusal(SOCKS_REPLY.commandNotSupported, `Unsupported SOCKS command ${bytes[1]}`);
  }
  // RFC 1928 §6: fields marked RESERVED must be set to X'00'.
  if (bytes[2] !== 0) throw malformed("The reserved byte of a SOCKS request is not zero");
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

/** Writes a reply. The bound address is given as 0.0.0.0:0: no socket of the proxy stands for the flow. */
export function encodeSocksReply(reply: SocksReply): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(SOCKS_VERSION, reply, 0, ATYP_IPV4, 0, 0, 0, 0, 0, 0);
}

interface AddressLayout {
  readonly addressType: SocksRequest["addressType"];
  readonly start: number;
  readonly size: number;
  readonly read: (bytes: Uint8Array) => string;
}

function readAddress(bytes: Uint8Array, layout: AddressLayout): SocksRequest | undefined {
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
