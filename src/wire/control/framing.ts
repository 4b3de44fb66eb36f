/**
 * Length-prefixed JSON messages: on a connector's control stream one after the other, and at the start of a
 * flow stream one header before raw bytes.
 *
 *   +-----------------+---------------------------+
 *   | Length (varint) | one JSON object, in UTF-8 |   Length <= MAX_MESSAGE
 *   +-----------------+---------------------------+
 */
import { utf8, utf8Decode } from "../../base/bytes.ts";
import { ProtocolError } from "../../base/errors.ts";
import { ByteQueue } from "../byte_queue.ts";
import { H3_EXCESSIVE_LOAD, H3_GENERAL_PROTOCOL_ERROR } from "../h3/codes.ts";
import { readVarint, varintLength, varintSize, writeVarint } from "../varint.ts";

/** The most bytes of one message's JSON: the longest is a bind of some hundred services. */
export const MAX_MESSAGE = 16_384;

/** Frames one message; throws `RangeError` when it is longer than {@linkcode MAX_MESSAGE}. */
export function encodeMessage(value: unknown): Uint8Array<ArrayBuffer> {
  const json = utf8(JSON.stringify(value));
  if (json.length > MAX_MESSAGE) {
    throw new RangeError(`Cannot encode message: ${json.length} bytes are more than ${MAX_MESSAGE}`);
  }
  const framed = new Uint8Array(varintSize(json.length) + json.length);
  framed.set(json, writeVarint(framed, 0, json.length));
  return framed;
}

/**
 * Reads messages from chunks of any size. Drive it: `push()` a chunk, then `next()` until it returns
 * `undefined`; it then holds less than one message. A message is only a JSON object so far: `messages.ts`
 * says what it means.
 */
export class MessageReader {
  readonly #queue = new ByteQueue();

  /** Appends a chunk. */
  push(bytes: Uint8Array): void {
    this.#queue.push(bytes);
  }

  /** Returns the next message, or `undefined` when more bytes are needed. */
  next(): unknown | undefined {
    const bytes = this.#queue.bytes;
    const first = bytes[0];
    if (first === undefined) return undefined;
    const prefix = varintLength(first);
    if (bytes.length < prefix) return undefined;
    const length = readVarint(bytes, 0);
    if (length > MAX_MESSAGE) {
      throw new ProtocolError("stream", H3_EXCESSIVE_LOAD, `Message of ${length} bytes is too long`);
    }
    if (bytes.length < prefix + length) return undefined;
    return parseObject(this.#queue.take(prefix + length).subarray(prefix));
  }

  /** Takes the bytes behind the last message read: the raw bytes that follow a header. */
  rest(): Uint8Array<ArrayBuffer> {
    return this.#queue.take(this.#queue.length);
  }
}

function parseObject(json: Uint8Array): object {
  let value: unknown;
  try {
    value = JSON.parse(utf8Decode(json));
  } catch (cause) {
    throw new ProtocolError("stream", H3_GENERAL_PROTOCOL_ERROR, "Message is not JSON in UTF-8", { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ProtocolError("stream", H3_GENERAL_PROTOCOL_ERROR, "Message is not a JSON object");
  }
  return value;
}
