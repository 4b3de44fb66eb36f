/**
 * What the fields of an HTTP/3 message may say (RFC 9114 §4.2, §4.3; extended CONNECT: RFC 9220, RFC 8441).
 * Malformed messages are stream errors of type H3_MESSAGE_ERROR.
 */

import { ProtocolError } from "../../base/errors.ts";
import type { Field } from "../qpack/static_table.ts";
import { H3_MESSAGE_ERROR } from "./codes.ts";

/** The validated head of a request. `headers` has lower-case names; repeated fields are joined by ", ". */
export interface RequestHead {
  readonly method: string;
  readonly scheme?: string;
  readonly authority?: string;
  readonly path?: string;
  /** The `:protocol` of an extended CONNECT. */
  readonly protocol?: string;
  readonly headers: ReadonlyMap<string, string>;
}

/** The validated head of a response. */
export interface ResponseHead {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
}

/** A request head as its sender gives it: names in lower case. */
export interface RequestInit {
  readonly method: string;
  /** Default `https`. */
  readonly scheme?: string;
  readonly authority: string;
  /** Absent only in a classic CONNECT. */
  readonly path?: string;
  readonly protocol?: string;
  readonly headers?: readonly Field[];
}

/** A response head as its sender gives it: names in lower case. */
export interface ResponseInit {
  readonly status: number;
  readonly headers?: readonly Field[];
}

/** Turns a request into fields, pseudo-header fields first. */
export function requestFields(init: RequestInit): Field[] {
  const fields: Field[] = [[":method", init.method]];
  if (init.protocol !== undefined) fields.push([":protocol", init.protocol]);
  // RFC 9114 §4.4: a classic CONNECT has neither :scheme nor :path.
  if (init.path !== undefined) fields.push([":scheme", init.scheme ?? "https"], [":path", init.path]);
  fields.push([":authority", init.authority], ...(init.headers ?? []));
  return fields;
}

/** Turns a response into fields, the pseudo-header field first. */
export function responseFields(init: ResponseInit): Field[] {
  return [[":status", String(init.status)], ...(init.headers ?? [])];
}

/** Checks the fields of a request and returns its head. */
export function readRequestHead(fields: readonly Field[]): RequestHead {
  const { pseudo, headers } = splitFields(fields, REQUEST_PSEUDO_FIELDS);
  const method = pseudo.get(":method");
  const scheme = pseudo.get(":scheme");
  const authority = pseudo.get(":authority");
  const path = pseudo.get(":path");
  const protocol = pseudo.get(":protocol");
  // RFC 9114 §4.3.1: all requests MUST include exactly one value for :method.
  if (method === undefined || !TOKEN.test(method)) throw malformed("Request has no valid :method");
  // RFC 8441 §4: :protocol belongs to CONNECT only.
  if (protocol !== undefined && method !== "CONNECT") throw malformed(":protocol outside CONNECT");
  if (method === "CONNECT" && protocol === undefined) {
    // RFC 9114 §4.4: :scheme and :path MUST be omitted, :authority names host and port.
    if (scheme !== undefined || path !== undefined) throw malformed("CONNECT with :scheme or :path");
    if (authority === undefined || !/:[0-9]{1,5}$/.test(authority)) {
      throw malformed("CONNECT without host and port in :authority");
    }
  } else {
    checkTarget({ method, scheme, path });
    checkAuthority({ scheme, authority, host: headers.get("host") });
  }
  return {
    method,
    headers,
    ...(scheme !== undefined && { scheme }),
    ...(authority !== undefined && { authority }),
    ...(path !== undefined && { path }),
    ...(protocol !== undefined && { protocol }),
  };
}

/** Checks the fields of a response and returns its head. */
export function readResponseHead(fields: readonly Field[]): ResponseHead {
  const { pseudo, headers } = splitFields(fields, RESPONSE_PSEUDO_FIELDS);
  const status = pseudo.get(":status") ?? "";
  // RFC 9114 §4.3.2: :status MUST be included; RFC 9110 §15: three digits, the first 1 to 5.
  if (!/^[1-5][0-9]{2}$/.test(status)) throw malformed("Response has no valid :status");
  // RFC 9114 §4.5: HTTP/3 does not support 101.
  if (status === "101") throw malformed("Response has status 101");
  return { status: Number(status), headers };
}

/** Checks the fields of a trailer section. */
export function checkTrailers(fields: readonly Field[]): void {
  // RFC 9114 §4.3: pseudo-header fields MUST NOT appear in trailer sections.
  splitFields(fields, NO_PSEUDO_FIELDS);
}

/** Returns the `content-length` of a message, or `undefined` when it says none. */
export function contentLength(headers: ReadonlyMap<string, string>): number | undefined {
  const value = headers.get("content-length");
  if (value === undefined) return undefined;
  const length = /^[0-9]{1,15}$/.test(value) ? Number(value) : NaN;
  if (Number.isNaN(length)) throw malformed("content-length is not a number");
  return length;
}

const REQUEST_PSEUDO_FIELDS: ReadonlySet<string> = new Set([
  ":method",
  ":scheme",
  ":authority",
  ":path",
  ":protocol",
]);
const RESPONSE_PSEUDO_FIELDS: ReadonlySet<string> = new Set([":status"]);
const NO_PSEUDO_FIELDS: ReadonlySet<string> = new Set();

const CONNECTION_FIELDS: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// deno-lint-ignore no-control-regex -- control characters are what must not occur
const FORBIDDEN_VALUE = /[\x00-\x08\x0a-\x1f\x7f]/;

interface SplitFields {
  readonly pseudo: ReadonlyMap<string, string>;
  readonly headers: ReadonlyMap<string, string>;
}

function splitFields(fields: readonly Field[], allowed: ReadonlySet<string>): SplitFields {
  const pseudo = new Map<string, string>();
  const headers = new Map<string, string>();
  for (const [name, value] of fields) {
    // RFC 9114 §10.3: a character that a field value may not hold makes the message malformed.
    if (FORBIDDEN_VALUE.test(value)) throw malformed("Field value holds a control character");
    if (name.startsWith(":")) {
      // RFC 9114 §4.3: pseudo-header fields are only those defined, once, and before all others.
      if (!allowed.has(name)) throw malformed("Pseudo-header field is unknown here");
      if (headers.size > 0) throw malformed("Pseudo-header field after a regular one");
      if (pseudo.has(name)) throw malformed("Pseudo-header field occurs twice");
      pseudo.set(name, value);
    } else {
      addField(headers, name, value);
    }
  }
  return { pseudo, headers };
}

function addField(headers: Map<string, string>, name: string, value: string): void {
  // RFC 9114 §4.2 and §10.3: upper-case and other foreign characters make the message malformed.
  if (!FIELD_NAME.test(name)) throw malformed("Field name is not a lower-case token");
  // RFC 9114 §4.2: connection-specific fields are malformed; TE may only say "trailers".
  if (CONNECTION_FIELDS.has(name)) throw malformed(`Connection-specific field ${name}`);
  if (name === "te" && value !== "trailers") throw malformed("TE says more than trailers");
  const existing = headers.get(name);
  if (existing === undefined) {
    headers.set(name, value);
  } else if (name === "content-length") {
    // RFC 9110 §8.6: differing lengths are invalid; equal ones count as one.
    if (existing !== value) throw malformed("content-length occurs with two values");
  } else if (name === "host") {
    throw malformed("host occurs twice");
  } else {
    // RFC 9114 §4.2.1: cookie crumbs are joined by a semicolon.
    headers.set(name, existing + (name === "cookie" ? "; " : ", ") + value);
  }
}

function checkTarget(
  target: { method: string; scheme: string | undefined; path: string | undefined },
): void {
  const { method, scheme, path } = target;
  // RFC 9114 §4.3.1: exactly one value for :scheme and :path; RFC 8441 §4: also in extended CONNECT.
  if (scheme === undefined || !/^[A-Za-z][A-Za-z0-9+.-]*$/.test(scheme)) throw malformed("No valid :scheme");
  if (path === undefined) throw malformed("Request has no :path");
  // RFC 9114 §4.3.1: the path of http and https is not empty; `*` belongs to OPTIONS.
  const absolute = path.startsWith("/") || (path === "*" && method === "OPTIONS");
  if (isHttp(scheme) && !absolute) throw malformed(":path is not absolute");
}

function checkAuthority(
  target: { scheme: string | undefined; authority: string | undefined; host: string | undefined },
): void {
  const { scheme, authority, host } = target;
  // RFC 9114 §4.3.1: http and https need an authority in one place, equal if in both, without userinfo.
  if (authority !== undefined && host !== undefined && authority !== host) {
    throw malformed(":authority and host differ");
  }
  if (scheme === undefined || !isHttp(scheme)) return;
  const name = authority ?? host;
  if (name === undefined || name === "") throw malformed("Request has no authority");
  if (name.includes("@")) throw malformed("Authority holds userinfo");
}

function isHttp(scheme: string): boolean {
  return scheme === "https" || scheme === "http";
}

function malformed(message: string): ProtocolError {
  return new ProtocolError("stream", H3_MESSAGE_ERROR, message);
}
