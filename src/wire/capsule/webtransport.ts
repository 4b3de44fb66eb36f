/**
 * The capsules of a WebTransport session's CONNECT stream that end it.
 *
 *   CLOSE_WEBTRANSPORT_SESSION = | Application error code (32 bits) | Reason (UTF-8, <= 1024 bytes) |
 *   DRAIN_WEBTRANSPORT_SESSION = | nothing |
 */
import { utf8, utf8Decode } from "../../base/bytes.ts";
import { ProtocolError } from "../../base/errors.ts";
import { H3_MESSAGE_ERROR } from "../h3/codes.ts";
import { encodeCapsule } from "./capsule.ts";

/** Ends the session, with a code and a reason. */
export const CLOSE_WEBTRANSPORT_SESSION = 0x2843;
/** Asks the peer to end the session when it can. */
export const DRAIN_WEBTRANSPORT_SESSION = 0x78ae;

const CODE_SIZE = 4;
/** The longest reason, in bytes. */
const MAX_REASON = 1024;

/** Why a session ended. */
export interface SessionClose {
  readonly code: number;
  readonly reason: string;
}

/** Writes a CLOSE_WEBTRANSPORT_SESSION capsule; a reason that is too long is cut between characters. */
export function encodeCloseSession({ code, reason }: SessionClose): Uint8Array<ArrayBuffer> {
  if (!(Number.isInteger(code) && code >= 0 && code <= 0xffff_ffff)) {
    throw new RangeError(`Cannot encode session close: expected a 32-bit code, got ${code}`);
  }
  const text = cutUtf8(utf8(reason), MAX_REASON);
  const value = new Uint8Array(CODE_SIZE + text.length);
  new DataView(value.buffer).setUint32(0, code);
  value.set(text, CODE_SIZE);
  return encodeCapsule(CLOSE_WEBTRANSPORT_SESSION, value);
}

/** Reads the value of a CLOSE_WEBTRANSPORT_SESSION capsule. */
export function decodeCloseSession(value: Uint8Array): SessionClose {
  if (value.length < CODE_SIZE || value.length > CODE_SIZE + MAX_REASON) {
    throw malformed(`${value.length} bytes long`);
  }
  const code = new DataView(value.buffer, value.byteOffset).getUint32(0);
  try {
    return { code, reason: utf8Decode(value.subarray(CODE_SIZE)) };
  } catch (cause) {
    throw malformed("not UTF-8", { cause });
  }
}

/** Keeps at most `max` bytes without splitting a character: continuation bytes are 10xxxxxx. */
function cutUtf8(text: Uint8Array, max: number): Uint8Array {
  if (text.length <= max) return text;
  let end = max;
  while (((text[end] as number) & 0xc0) === 0x80) end--;
  return text.subarray(0, end);
}

function malformed(what: string, options?: ErrorOptions): ProtocolError {
  return new ProtocolError("stream", H3_MESSAGE_ERROR, `CLOSE_WEBTRANSPORT_SESSION is ${what}`, options);
}
