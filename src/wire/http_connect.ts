/**
 * The heads an HTTP/1.1 proxy reads and writes (RFC 9112): CONNECT and absolute-form requests in, refusals and
 * rewritten requests out. Faults are `ProtocolError`s whose `wireCode` is the HTTP status to answer with.
 */

import { type HostPort, parseHostPort } from "../base/address.ts";
import { ProtocolError } from "../base/errors.ts";

/** Bytes of the longest request head accepted: room for generous cookies, and all that is held of a client. */
export const MAX_REQUEST_HEAD = 16_384;

/** A field as it came, value trimmed. Each character is one byte. */
export type HttpField = readonly [name: string, value: string];

/** A request head. */
export interface HttpRequestHead {
  readonly method: string;
  readonly target: string;
  readonly version: "1.0" | "1.1";
  readonly fields: readonly HttpField[];
  /** Bytes the head took, the empty line included. */
  readonly length: number;
}

/** What a client wants of the proxy: a tunnel, or one request passed on in `origin` form. */
export type ProxyTarget =
  | { readonly kind: "tunnel"; readonly address: HostPort }
  | {
    readonly kind: "request";
    readonly address: HostPort;
    readonly authority: string;
    readonly origin: string;
  };

const CR = 0x0d;
const LF = 0x0a;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)$/;
const ABSOLUTE = /^http:\/\/([^/?#]*)([^#]*)$/i;

/** Reads a request head; returns undefined while its end is missing. */
export function decodeRequestHead(bytes: Uint8Array): HttpRequestHead | undefined {
  const end = findHeadEnd(bytes);
  if (end === undefined || end > MAX_REQUEST_HEAD) {
    if (bytes.length >= MAX_REQUEST_HEAD) throw fault(431, "Request head is too large");
    return undefined;
  }
  const [requestLine = "", ...lines] = latin1(bytes.subarray(0, end - 4)).split("\r\n");
  const { method, target, version } = readRequestLine(requestLine);
  const fields = lines.map(readField);
  // RFC 9112 §3.2: a request without a Host field, or with several, is answered with 400.
  const hosts = fieldValues(fields, "host").length;
  if (hosts > 1 || (hosts === 0 && version === "1.1")) {
    throw fault(400, "A request needs exactly one Host field");
  }
  return { method, target, version, fields, length: end };
}

/** Tells where a request wants to go. */
export function readProxyTarget(head: HttpRequestHead): ProxyTarget {
  if (head.method === "CONNECT") {
    // RFC 9110 §9.3.6: a CONNECT whose target has no valid port is refused with 400.
    return { kind: "tunnel", address: readAuthority(head.target) };
  }
  const match = ABSOLUTE.exec(head.target);
  if (match === null) {
    if (/^https:/i.test(head.target)) throw fault(400, "Use CONNECT to reach https URLs");
    throw fault(400, "This is a proxy: request http://SERVICE/ through it, or CONNECT to SERVICE:PORT");
  }
  const authority = match[1]!;
  const address = readAuthority(
    /:[0-9]*$/.test(authority) ? authority.replace(/:$/, ":80") : `${authority}:80`,
  );
  const rest = match[2]!;
  const origin = rest.startsWith("/") ? rest : `/${rest}`;
  return { kind: "request", address, authority, origin };
}

/**
 * Writes the head that goes to the service for an absolute-form request. The connection carries this one
 * request only: what follows it might be meant for another service.
 */
export function encodeForwardedHead(
  head: HttpRequestHead,
  target: Extract<ProxyTarget, { kind: "request" }>,
): Uint8Array<ArrayBuffer> {
  const dropped = new Set(HOP_BY_HOP);
  // RFC 9110 §7.6.1: an intermediary removes the Connection field and every field it names.
  for (const value of fieldValues(head.fields, "connection")) {
    for (const option of value.split(",")) dropped.add(option.trim().toLowerCase());
  }
  const passed = head.fields.filter(([name]) =>
    FRAMING.has(name.toLowerCase()) || !dropped.has(name.toLowerCase())
  );
  return bytesOf(encodeHead(`${head.method} ${target.origin} HTTP/${head.version}`, [
    // RFC 9112 §3.2.2: the Host a client sent beside an absolute-form target is replaced by the target's.
    ["Host", target.authority],
    ...passed,
    // RFC 9110 §7.6.3: a proxy adds itself to Via.
    ["Via", `${head.version} ginnel`],
    ["Connection", "close"],
  ]));
}

/** Writes a response of the proxy itself, with one line of text as its content; it ends the connection. */
export function encodeProxyResponse(
  status: number,
  text: string,
  fields: readonly HttpField[] = [],
): Uint8Array<ArrayBuffer> {
  // The text may quote a peer: nothing but printable ASCII leaves here.
  const content = `${text.replace(/[^\x20-\x7e]/g, "?")}\n`;
  const head = encodeHead(`HTTP/1.1 ${status} ${REASONS[status] ?? "Error"}`, [
    ["Content-Type", "text/plain; charset=us-ascii"],
    ["Content-Length", String(content.length)],
    ...fields,
    ["Connection", "close"],
  ]);
  return bytesOf(head + content);
}

/** The answer that opens a tunnel. */
export const TUNNEL_ESTABLISHED: Uint8Array<ArrayBuffer> = bytesOf(
  "HTTP/1.1 200 Connection established\r\n\r\n",
);

/** Values of all fields called `name`, which is in lower case. */
export function fieldValues(fields: readonly HttpField[], name: string): string[] {
  return fields.filter(([field]) => field.toLowerCase() === name).map(([, value]) => value);
}

const HOP_BY_HOP = [
  "connection",
  "host",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "upgrade",
];
/** Naming these in Connection must not change where the request ends. */
const FRAMING: ReadonlySet<string> = new Set(["content-length", "transfer-encoding"]);

const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  408: "Request Timeout",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
};

function findHeadEnd(bytes: Uint8Array): number | undefined {
  for (let at = bytes.indexOf(CR); at !== -1; at = bytes.indexOf(CR, at + 1)) {
    if (bytes[at + 1] === LF && bytes[at + 2] === CR && bytes[at + 3] === LF) return at + 4;
  }
  return undefined;
}

function readRequestLine(line: string): Pick<HttpRequestHead, "method" | "target" | "version"> {
  const [method = "", target = "", protocol = "", ...more] = line.split(" ");
  // RFC 9112 §3: an invalid request line is answered with 400, not repaired.
  if (more.length > 0 || !TOKEN.test(method) || !/^[\x21-\x7e]+$/.test(target)) {
    throw fault(400, "Request line is malformed");
  }
  const version = /^HTTP\/1\.([01])$/.exec(protocol)?.[1];
  if (version === undefined) {
    throw /^HTTP\/[0-9]\.[0-9]$/.test(protocol)
      ? fault(505, "Only HTTP/1.0 and HTTP/1.1 are understood")
      : fault(400, "Request line is malformed");
  }
  return { method, target, version: version === "1" ? "1.1" : "1.0" };
}

function readField(line: string): HttpField {
  // RFC 9112 §5.1: white space before the colon is refused; §5.2: so is a folded line.
  const match = FIELD.exec(line);
  if (match === null) throw fault(400, "Header field is malformed");
  return [match[1]!, trimBlanks(match[2]!)];
}

/** Takes off spaces and tabs, in linear time and sparing the other characters that `trim()` takes for blank. */
function trimBlanks(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isBlank(text[start])) start++;
  while (end > start && isBlank(text[end - 1])) end--;
  return text.slice(start, end);
}

function isBlank(character: string | undefined): boolean {
  return character === " " || character === "\t";
}

function readAuthority(text: string): HostPort {
  try {
    const address = parseHostPort(text);
    if (address.port !== 0) return address;
  } catch {
    // Answered below, like port 0.
  }
  throw fault(400, "Request target has no valid host and port");
}

function encodeHead(startLine: string, fields: readonly HttpField[]): string {
  return `${startLine}\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function fault(status: number, message: string): ProtocolError {
  return new ProtocolError("connection", status, message);
}
