/**
 * The receiving side of a request stream (RFC 9114 §4.1): which frames may come when, the message's head,
 * its content in pieces, its end. One decoder per stream.
 */

import { ProtocolError } from "../../base/errors.ts";
import { decodeFieldSection, FieldSectionTooLargeError } from "../qpack/decoder.ts";
import {
  FRAME_CANCEL_PUSH,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_MAX_PUSH_ID,
  FRAME_PUSH_PROMISE,
  FRAME_SETTINGS,
  FRAME_WT_STREAM,
  H3_CONNECT_ERROR,
  H3_EXCESSIVE_LOAD,
  H3_FRAME_ERROR,
  H3_FRAME_UNEXPECTED,
  H3_ID_ERROR,
  H3_MESSAGE_ERROR,
  H3_REQUEST_INCOMPLETE,
} from "./codes.ts";
import { FrameReader, type FrameRule } from "./frame.ts";
import {
  checkTrailers,
  contentLength,
  readRequestHead,
  readResponseHead,
  type RequestHead,
  type ResponseHead,
} from "./message.ts";

/** Bytes of unknown frames a peer may send in front of a head: it costs time, never memory. */
export const MAX_SKIPPED_BEFORE_HEAD = 65_536;

/** Frame types of HTTP/2 that must not occur (RFC 9114 §7.2.8). */
export const RESERVED_FRAMES: ReadonlySet<number> = new Set([0x02, 0x06, 0x08, 0x09]);

/** What a decoder found. */
export type MessageEvent =
  | { readonly kind: "request"; readonly head: RequestHead }
  | { readonly kind: "response"; readonly head: ResponseHead }
  | { readonly kind: "data"; readonly bytes: Uint8Array<ArrayBuffer> };

/** Which message a decoder reads, and its bounds. */
export interface MessageDecoderOptions {
  /** A server reads requests, a client responses. */
  readonly reads: "request" | "response";
  /** The method of the request that a response answers. */
  readonly method?: string;
  /** Most bytes of a field section, on the wire and decoded. */
  readonly maxFieldSectionSize: number;
}

/**
 * Drive it: `push()` bytes, `next()` until `undefined`, push again; `end()` when the stream ended. Throws
 * {@linkcode ProtocolError} and {@linkcode FieldSectionTooLargeError}; after a throw the decoder is spent.
 */
export class MessageDecoder {
  readonly #options: MessageDecoderOptions;
  readonly #frames: FrameReader;
  #state: "head" | "content" | "tunnel" | "trailed" = "head";
  #skipped = 0;
  /** Bytes of content still owed by content-length; `undefined` when it was not given. */
  #owed: number | undefined;

  constructor(options: MessageDecoderOptions) {
    this.#options = options;
    this.#frames = new FrameReader((type, length) => this.#rule(type, length));
  }

  /** Hands over the next bytes; they must stay untouched until `next()` has returned `undefined`. */
  push(chunk: Uint8Array<ArrayBuffer>): void {
    this.#frames.push(chunk);
  }

  /** Returns the next event, or `undefined` when more bytes are needed. */
  next(): MessageEvent | undefined {
    for (;;) {
      const part = this.#frames.next();
      if (part === undefined) return undefined;
      if (part.type === FRAME_DATA) {
        this.#countContent(part.bytes.length);
        return { kind: "data", bytes: part.bytes };
      }
      const event = this.#readFieldSection(part.bytes);
      if (event !== undefined) return event;
    }
  }

  /** The peer ended the stream. */
  end(): void {
    if (this.#frames.midFrame) {
      // RFC 9114 §4.4: a broken tunnel is a stream error. The runtime has no reset, so our own peers break one off
      // by ending its stream in the middle of a frame: that must not take every other flow with it.
      if (this.#state === "tunnel") throw new ProtocolError("stream", H3_CONNECT_ERROR, "Tunnel broken off");
      // RFC 9114 §7.1: any other stream that ends inside a frame is a connection error.
      throw connectionError(H3_FRAME_ERROR, "Stream ends inside a frame");
    }
    if (this.#state === "head") {
      // RFC 9114 §4.1.2: a request that is not complete when its stream ends.
      const code = this.#options.reads === "request" ? H3_REQUEST_INCOMPLETE : H3_MESSAGE_ERROR;
      throw new ProtocolError("stream", code, "Stream ends before the head of its message");
    }
    // RFC 9114 §4.1.2: content shorter than content-length is malformed.
    if (this.#owed !== undefined && this.#owed > 0) throw lengthError();
  }

  #rule(type: number, length: number): FrameRule {
    switch (type) {
      case FRAME_DATA:
        // RFC 9114 §4.1: DATA before any HEADERS, or after trailers, is a connection error.
        if (this.#state === "head" || this.#state === "trailed") throw unexpected(type);
        return "stream";
      case FRAME_HEADERS:
        // RFC 9114 §4.1 and §4.4: HEADERS after trailers, or on a connected tunnel, is a connection error.
        if (this.#state === "trailed" || this.#state === "tunnel") throw unexpected(type);
        if (length > this.#options.maxFieldSectionSize) {
          throw new FieldSectionTooLargeError(this.#options.maxFieldSectionSize);
        }
        return "collect";
      case FRAME_PUSH_PROMISE:
        // RFC 9114 §7.2.5: to a server it is unexpected; a client that allowed no push has an id error.
        if (this.#options.reads === "request") throw unexpected(type);
        throw connectionError(H3_ID_ERROR, "Push was never allowed");
      case FRAME_CANCEL_PUSH:
      case FRAME_SETTINGS:
      case FRAME_GOAWAY:
      case FRAME_MAX_PUSH_ID:
        // RFC 9114 §7.2.3, §7.2.4, §7.2.6, §7.2.7: control stream only.
        throw unexpected(type);
      case FRAME_WT_STREAM:
        // It opens a stream and never follows a frame.
        throw connectionError(H3_FRAME_ERROR, "WebTransport signal inside a stream");
      default:
        return this.#skipUnknown(type, length);
    }
  }

  #skipUnknown(type: number, length: number): FrameRule {
    // RFC 9114 §7.2.8: frame types reserved from HTTP/2 are errors.
    if (RESERVED_FRAMES.has(type)) throw unexpected(type);
    if (this.#state === "head") {
      this.#skipped += length + 2;
      if (this.#skipped > MAX_SKIPPED_BEFORE_HEAD) {
        throw connectionError(H3_EXCESSIVE_LOAD, "Too many unknown frames before a head");
      }
    }
    // RFC 9114 §9: unknown frame types are ignored.
    return "skip";
  }

  #readFieldSection(bytes: Uint8Array): MessageEvent | undefined {
    const { maxFieldSectionSize } = this.#options;
    const fields = decodeFieldSection(bytes, { maxFieldSectionSize });
    if (this.#state !== "head") {
      checkTrailers(fields);
      this.#state = "trailed";
      return undefined;
    }
    if (this.#options.reads === "request") {
      const head = readRequestHead(fields);
      this.#state = head.method === "CONNECT" ? "tunnel" : "content";
      if (this.#state === "content") this.#owed = contentLength(head.headers);
      return { kind: "request", head };
    }
    const head = readResponseHead(fields);
    // RFC 9114 §4.1: interim responses come before the final one.
    if (head.status < 200) return undefined;
    const { method } = this.#options;
    this.#state = method === "CONNECT" && head.status < 300 ? "tunnel" : "content";
    // RFC 9110 §8.6: there content-length describes content that is not sent.
    const bodiless = method === "HEAD" || head.status === 204 || head.status === 304;
    if (this.#state === "content" && !bodiless) this.#owed = contentLength(head.headers);
    return { kind: "response", head };
  }

  #countContent(length: number): void {
    if (this.#owed === undefined) return;
    this.#owed -= length;
    // RFC 9114 §4.1.2: content longer than content-length is malformed.
    if (this.#owed < 0) throw lengthError();
  }
}

function unexpected(type: number): ProtocolError {
  return connectionError(H3_FRAME_UNEXPECTED, `Frame type 0x${type.toString(16)} is not allowed here`);
}

function connectionError(code: number, message: string): ProtocolError {
  return new ProtocolError("connection", code, message);
}

function lengthError(): ProtocolError {
  return new ProtocolError("stream", H3_MESSAGE_ERROR, "Content differs from content-length");
}
