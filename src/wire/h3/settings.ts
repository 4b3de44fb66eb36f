/**
 * The SETTINGS frame (RFC 9114 §7.2.4): a list of identifier and value, each a varint.
 */

import { ProtocolError } from "../../base/errors.ts";
import { readVarint, varintLength, varintSize, writeVarint } from "../varint.ts";
import {
  FRAME_SETTINGS,
  H3_FRAME_ERROR,
  H3_SETTINGS_ERROR,
  SETTINGS_ENABLE_CONNECT_PROTOCOL,
  SETTINGS_ENABLE_WEBTRANSPORT,
  SETTINGS_H3_DATAGRAM,
  SETTINGS_MAX_FIELD_SECTION_SIZE,
  SETTINGS_WEBTRANSPORT_MAX_SESSIONS,
  SETTINGS_WT_MAX_SESSIONS,
} from "./codes.ts";
import { encodeFrame } from "./frame.ts";

/** The most bytes of a SETTINGS payload we read: 1 KiB holds over 60 of the longest settings. */
export const MAX_SETTINGS_LENGTH = 1024;

/** What a peer's settings mean to us. */
export interface Settings {
  /** The largest field section the peer takes, RFC 9114 §4.2.2 size; Infinity when unlimited. */
  readonly maxFieldSectionSize: number;
  /** Extended CONNECT (RFC 9220 §3). */
  readonly connectProtocol: boolean;
  /** HTTP Datagrams (RFC 9297 §2.1.1). */
  readonly datagrams: boolean;
  /** WebTransport sessions, under any of its setting's deployed forms. */
  readonly webTransport: boolean;
}

/** What we say in our own SETTINGS; absent values are not sent. */
export interface LocalSettings {
  readonly maxFieldSectionSize: number;
  readonly connectProtocol?: boolean;
  readonly datagrams?: boolean;
  /** How many WebTransport sessions we accept on one connection. */
  readonly webTransportSessions?: number;
}

/** Returns our SETTINGS frame. */
export function encodeSettings(settings: LocalSettings): Uint8Array<ArrayBuffer> {
  // The QPACK settings keep their default 0: no dynamic table (RFC 9204 §5).
  const entries: [id: number, value: number][] = [
    [SETTINGS_MAX_FIELD_SECTION_SIZE, settings.maxFieldSectionSize],
  ];
  if (settings.connectProtocol) entries.push([SETTINGS_ENABLE_CONNECT_PROTOCOL, 1]);
  if (settings.datagrams) entries.push([SETTINGS_H3_DATAGRAM, 1]);
  if (settings.webTransportSessions) {
    entries.push([SETTINGS_ENABLE_WEBTRANSPORT, 1]);
    entries.push([SETTINGS_WEBTRANSPORT_MAX_SESSIONS, settings.webTransportSessions]);
  }
  let length = 0;
  for (const [id, value] of entries) length += varintSize(id) + varintSize(value);
  const payload = new Uint8Array(length);
  let offset = 0;
  for (const [id, value] of entries) offset = writeVarint(payload, writeVarint(payload, offset, id), value);
  return encodeFrame(FRAME_SETTINGS, payload);
}

/** Reads the payload of a SETTINGS frame. */
export function decodeSettings(payload: Uint8Array): Settings {
  const values = new Map<number, number>();
  let offset = 0;
  while (offset < payload.length) {
    const id = readBounded(payload, offset);
    offset += id.size;
    const value = readBounded(payload, offset);
    offset += value.size;
    // RFC 9114 §7.2.4: the same setting identifier MUST NOT occur more than once.
    if (values.has(id.value)) throw settingsError(`Setting 0x${id.value.toString(16)} occurs twice`);
    // RFC 9114 §7.2.4.1: settings reserved from HTTP/2 MUST be treated as an error.
    if (RESERVED_SETTINGS.has(id.value)) {
      throw settingsError(`Setting 0x${id.value.toString(16)} is reserved`);
    }
    values.set(id.value, value.value);
  }
  return {
    maxFieldSectionSize: values.get(SETTINGS_MAX_FIELD_SECTION_SIZE) ?? Infinity,
    // RFC 9220 §3 with RFC 8441 §3: the value is 0 or 1.
    connectProtocol: readFlag(values, SETTINGS_ENABLE_CONNECT_PROTOCOL),
    // RFC 9297 §2.1.1: any other value than 0 or 1 is a settings error.
    datagrams: readFlag(values, SETTINGS_H3_DATAGRAM),
    webTransport: WEBTRANSPORT_SETTINGS.some((id) => (values.get(id) ?? 0) > 0),
  };
}

/** Settings of HTTP/2 that have no meaning here, RFC 9114 §11.2.2. */
const RESERVED_SETTINGS: ReadonlySet<number> = new Set([0x00, 0x02, 0x03, 0x04, 0x05]);

const WEBTRANSPORT_SETTINGS = [
  SETTINGS_ENABLE_WEBTRANSPORT,
  SETTINGS_WEBTRANSPORT_MAX_SESSIONS,
  SETTINGS_WT_MAX_SESSIONS,
] as const;

function readFlag(values: ReadonlyMap<number, number>, id: number): boolean {
  const value = values.get(id) ?? 0;
  if (value > 1) throw settingsError(`Setting 0x${id.toString(16)} must be 0 or 1, got ${value}`);
  return value === 1;
}

function readBounded(payload: Uint8Array, offset: number): { value: number; size: number } {
  const size = offset < payload.length ? varintLength(payload[offset] as number) : Infinity;
  // RFC 9114 §7.1: a payload that ends inside its fields is a frame error.
  if (offset + size > payload.length) {
    throw new ProtocolError("connection", H3_FRAME_ERROR, "SETTINGS ends inside a setting");
  }
  return { value: readVarint(payload, offset), size };
}

function settingsError(message: string): ProtocolError {
  return new ProtocolError("connection", H3_SETTINGS_ERROR, message);
}
