/**
 * Finds the end of an HTTP/1.1 request's content (RFC 9112 §6, §7), so that a proxy passes on one request and
 * not a byte of what follows. It looks at bytes and changes none.
 */

import { ProtocolError } from "../base/errors.ts";
import { fieldValues, type HttpRequestHead } from "./http_connect.ts";

/** Bytes of the longest chunk-size line, and of all trailer lines together. */
const MAX_LINE = 4_096;
const MAX_TRAILERS = 16_384;

const CR = 0x0d;
const LF = 0x0a;

/** Where in the content the next byte falls. */
type State =
  | "data"
  | "size"
  | "size-lf"
  | "chunk"
  | "chunk-cr"
  | "chunk-lf"
  | "trailer"
  | "trailer-lf"
  | "end";

/** The content of one request. Drive it with {@linkcode push} until {@linkcode ended}. */
export class HttpRequestBody {
  #state: State;
  /** Bytes left of sized content or of the current chunk. */
  #left: number;
  #line = "";
  #lineLength = 0;
  #trailerLength = 0;

  /** Throws `ProtocolError` with status 400 or 501 when the head does not say where its content ends. */
  constructor(head: HttpRequestHead) {
    const length = contentLength(head);
    this.#left = length === "chunked" ? 0 : length;
    this.#state = length === "chunked" ? "size" : length === 0 ? "end" : "data";
  }

  /** Whether the content is complete. */
  get ended(): boolean {
    return this.#state === "end";
  }

  /** Takes the next bytes and returns how many of them belong to the content. */
  push(bytes: Uint8Array): number {
    let offset = 0;
    while (offset < bytes.length && this.#state !== "end") {
      if (this.#state === "data" || this.#state === "chunk") {
        const taken = Math.min(this.#left, bytes.length - offset);
        offset += taken;
        this.#left -= taken;
        if (this.#left === 0) this.#state = this.#state === "data" ? "end" : "chunk-cr";
      } else {
        this.#takeByte(bytes[offset++]!);
      }
    }
    return offset;
  }

  #takeByte(byte: number): void {
    switch (this.#state) {
      case "size":
        if (byte === CR) this.#state = "size-lf";
        else this.#takeLineByte(byte);
        break;
      case "size-lf":
        requireByte(byte, LF);
        this.#left = chunkSize(this.#line);
        this.#state = this.#left === 0 ? "trailer" : "chunk";
        this.#line = "";
        this.#lineLength = 0;
        break;
      case "chunk-cr":
        requireByte(byte, CR);
        this.#state = "chunk-lf";
        break;
      case "chunk-lf":
        requireByte(byte, LF);
        this.#state = "size";
        break;
      case "trailer":
        if (++this.#trailerLength > MAX_TRAILERS) throw fault(431, "Trailers are too large");
        if (byte === CR) this.#state = "trailer-lf";
        else if (byte === LF) throw fault(400, "Chunked content is malformed");
        else this.#lineLength++;
        break;
      case "trailer-lf":
        requireByte(byte, LF);
        this.#state = this.#lineLength === 0 ? "end" : "trailer";
        this.#lineLength = 0;
        break;
    }
  }

  #takeLineByte(byte: number): void {
    if (byte === LF || ++this.#lineLength > MAX_LINE) throw fault(400, "Chunked content is malformed");
    this.#line += String.fromCharCode(byte);
  }
}

function contentLength(head: HttpRequestHead): number | "chunked" {
  const codings = fieldValues(head.fields, "transfer-encoding");
  const lengths = fieldValues(head.fields, "content-length").flatMap((value) => value.split(","))
    .map((value) => value.trim());
  if (codings.length > 0) {
    // RFC 9112 §6.1: both fields together, or a coding in HTTP/1.0, are taken as an attempt to smuggle.
    if (lengths.length > 0 || head.version === "1.0") {
      throw fault(400, "Transfer-Encoding is not possible here");
    }
    // RFC 9112 §6.1: a coding that is not understood is answered with 501.
    if (codings.join(",").trim().toLowerCase() !== "chunked") throw fault(501, "Unknown transfer coding");
    return "chunked";
  }
  if (lengths.length === 0) return 0;
  const first = lengths[0]!;
  // RFC 9112 §6.3: an invalid Content-Length, or several that differ, cannot be recovered from.
  if (!/^[0-9]{1,15}$/.test(first) || lengths.some((length) => length !== first)) {
    throw fault(400, "Content-Length is invalid");
  }
  return Number(first);
}

function chunkSize(line: string): number {
  const match = /^([0-9a-fA-F]{1,13})[ \t]*(?:;.*)?$/.exec(line);
  // RFC 9112 §7.1: a recipient anticipates large sizes and does not let them overflow.
  if (match === null) throw fault(400, "Chunked content is malformed");
  return Number.parseInt(match[1]!, 16);
}

function requireByte(byte: number, wanted: number): void {
  if (byte !== wanted) throw fault(400, "Chunked content is malformed");
}

function fault(status: number, message: string): ProtocolError {
  return new ProtocolError("connection", status, message);
}
