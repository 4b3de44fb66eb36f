/**
 * A connection's unidirectional streams (RFC 9114 §6.2): the peer's control stream with SETTINGS and GOAWAY,
 * its QPACK streams, WebTransport streams, and everything that must not be there. Every error here ends
 * the connection.
 */

import { ProtocolError } from "../../base/errors.ts";
import { QpackDecoderStreamReader, QpackEncoderStreamReader } from "../qpack/streams.ts";
import { encodeVarint } from "../varint.ts";
import {
  FRAME_CANCEL_PUSH,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_MAX_PUSH_ID,
  FRAME_PUSH_PROMISE,
  FRAME_SETTINGS,
  FRAME_WT_STREAM,
  H3_CLOSED_CRITICAL_STREAM,
  H3_EXCESSIVE_LOAD,
  H3_FRAME_ERROR,
  H3_FRAME_UNEXPECTED,
  H3_ID_ERROR,
  H3_MISSING_SETTINGS,
  H3_STREAM_CREATION_ERROR,
  STREAM_CONTROL,
  STREAM_PUSH,
  STREAM_QPACK_DECODER,
  STREAM_QPACK_ENCODER,
} from "./codes.ts";
import { encodeFrame, FrameReader, type FrameRule, readVarintPayload } from "./frame.ts";
import { RESERVED_FRAMES } from "./message_decoder.ts";
import {
  decodeSettings,
  encodeSettings,
  type LocalSettings,
  MAX_SETTINGS_LENGTH,
  type Settings,
} from "./settings.ts";
import { StreamSignalReader } from "./stream_signal.ts";

/** Returns the first bytes of our control stream: its type and our SETTINGS. */
export function encodeControlPreface(settings: LocalSettings): Uint8Array<ArrayBuffer> {
  const frame = encodeSettings(settings);
  const bytes = new Uint8Array(1 + frame.length);
  bytes[0] = STREAM_CONTROL;
  bytes.set(frame, 1);
  return bytes;
}

/** Returns a GOAWAY frame: streams (from a server) or pushes (from a client) from `id` on are not served. */
export function encodeGoaway(id: number): Uint8Array<ArrayBuffer> {
  return encodeFrame(FRAME_GOAWAY, encodeVarint(id));
}

/** What the caller does with a unidirectional stream after a push. */
export type UniStreamVerdict =
  /** Go on pushing what the stream brings. */
  | { readonly kind: "continue" }
  /** Stop reading: the type is unknown. */
  | { readonly kind: "ignore" }
  /** The stream belongs to a WebTransport session; `rest` are its first bytes. */
  | { readonly kind: "webtransport"; readonly sessionId: number; readonly rest: Uint8Array<ArrayBuffer> };

/** What the peer says about the whole connection. */
export type ControlEvent =
  | { readonly kind: "settings"; readonly settings: Settings }
  | { readonly kind: "goaway"; readonly id: number };

/** One unidirectional stream of the peer. */
export interface UniStreamHandler {
  push(chunk: Uint8Array<ArrayBuffer>): UniStreamVerdict;
  /** The peer ended the stream, or it broke. */
  end(): void;
}

/**
 * The receiving side of a connection's unidirectional streams. Drive it: one `openStream()` per stream, push
 * its bytes into the handler, and after each push take events with `pollEvent()` until `undefined`.
 */
export class ControlState {
  readonly #role: "server" | "client";
  readonly #events: ControlEvent[] = [];
  readonly #critical = new Set<number>();
  #settingsSeen = false;
  #goaway = Infinity;
  #maxPushId = -1;

  constructor(role: "server" | "client") {
    this.#role = role;
  }

  /** Returns the next event, or `undefined` when there is none. */
  pollEvent(): ControlEvent | undefined {
    return this.#events.shift();
  }

  /** The peer opened a unidirectional stream. */
  openStream(): UniStreamHandler {
    const signal = new StreamSignalReader("unidirectional");
    let sink: ((bytes: Uint8Array<ArrayBuffer>) => void) | undefined;
    return {
      push: (chunk) => {
        if (sink !== undefined) {
          sink(chunk);
          return CONTINUE;
        }
        const found = signal.push(chunk);
        if (found === undefined) return CONTINUE;
        if (found.kind === "webtransport") return found;
        sink = this.#open(found.type);
        if (sink === undefined) return IGNORE;
        sink(found.rest);
        return CONTINUE;
      },
      end: () => {
        // RFC 9114 §6.2: a stream that ends before its type is complete is tolerated.
        // RFC 9114 §6.2.1 and RFC 9204 §4.2: critical streams MUST NOT be closed.
        if (sink !== undefined) throw fail(H3_CLOSED_CRITICAL_STREAM, "Critical stream was closed");
      },
    };
  }

  /** Returns what takes the stream's bytes, or `undefined` for an unknown type. */
  #open(type: number): ((bytes: Uint8Array<ArrayBuffer>) => void) | undefined {
    switch (type) {
      case STREAM_CONTROL: {
        this.#claim(type);
        const frames = new FrameReader((frameType, length) => this.#rule(frameType, length));
        return (bytes) => this.#pushControl(frames, bytes);
      }
      case STREAM_QPACK_ENCODER: {
        this.#claim(type);
        const reader = new QpackEncoderStreamReader();
        return (bytes) => reader.push(bytes);
      }
      case STREAM_QPACK_DECODER: {
        this.#claim(type);
        const reader = new QpackDecoderStreamReader();
        return (bytes) => reader.push(bytes);
      }
      case STREAM_PUSH:
        // RFC 9114 §6.2.2: only servers push; RFC 9114 §4.6: and only what MAX_PUSH_ID allowed.
        if (this.#role === "server") throw fail(H3_STREAM_CREATION_ERROR, "Client opened a push stream");
        throw fail(H3_ID_ERROR, "Push was never allowed");
      default:
        // RFC 9114 §6.2: streams of unknown type are not read and not an error.
        return undefined;
    }
  }

  #claim(type: number): void {
    // RFC 9114 §6.2.1 and RFC 9204 §4.2: only one stream of each critical type.
    if (this.#critical.has(type)) throw fail(H3_STREAM_CREATION_ERROR, `Second stream of type ${type}`);
    this.#critical.add(type);
  }

  #rule(type: number, length: number): FrameRule {
    // RFC 9114 §6.2.1: the first frame of the control stream is SETTINGS.
    if (!this.#settingsSeen && type !== FRAME_SETTINGS) {
      throw fail(H3_MISSING_SETTINGS, "Control stream does not begin with SETTINGS");
    }
    switch (type) {
      case FRAME_SETTINGS:
        // RFC 9114 §7.2.4: SETTINGS comes once.
        if (this.#settingsSeen) throw unexpected(type);
        if (length > MAX_SETTINGS_LENGTH) throw fail(H3_EXCESSIVE_LOAD, "SETTINGS is too long");
        this.#settingsSeen = true;
        return "collect";
      case FRAME_MAX_PUSH_ID:
        // RFC 9114 §7.2.7: a server MUST NOT send it.
        if (this.#role === "client") throw unexpected(type);
        return collectInteger(length);
      case FRAME_GOAWAY:
      case FRAME_CANCEL_PUSH:
        return collectInteger(length);
      case FRAME_DATA:
      case FRAME_HEADERS:
      case FRAME_PUSH_PROMISE:
        // RFC 9114 §7.2.1, §7.2.2, §7.2.5: never on the control stream.
        throw unexpected(type);
      case FRAME_WT_STREAM:
        throw fail(H3_FRAME_ERROR, "WebTransport signal on the control stream");
      default:
        // RFC 9114 §7.2.8: reserved from HTTP/2; RFC 9114 §9: others are ignored.
        if (RESERVED_FRAMES.has(type)) throw unexpected(type);
        return "skip";
    }
  }

  #pushControl(frames: FrameReader, bytes: Uint8Array<ArrayBuffer>): void {
    frames.push(bytes);
    for (let part = frames.next(); part !== undefined; part = frames.next()) {
      if (part.type === FRAME_SETTINGS) {
        this.#events.push({ kind: "settings", settings: decodeSettings(part.bytes) });
        continue;
      }
      const id = readVarintPayload(part.bytes);
      if (part.type === FRAME_GOAWAY) this.#onGoaway(id);
      else if (part.type === FRAME_MAX_PUSH_ID) this.#onMaxPushId(id);
      // RFC 9114 §7.2.3: we promised no push and allowed none, so no push id can be cancelled.
      else throw fail(H3_ID_ERROR, "CANCEL_PUSH of a push that does not exist");
    }
  }

  #onGoaway(id: number): void {
    // RFC 9114 §7.2.6: a client receives the id of a client-initiated bidirectional stream.
    if (this.#role === "client" && id % 4 !== 0) throw fail(H3_ID_ERROR, "GOAWAY names no request stream");
    // RFC 9114 §5.2: the id MUST NOT increase.
    if (id > this.#goaway) throw fail(H3_ID_ERROR, "GOAWAY id increases");
    this.#goaway = id;
    this.#events.push({ kind: "goaway", id });
  }

  #onMaxPushId(id: number): void {
    // RFC 9114 §7.2.7: the maximum MUST NOT shrink.
    if (id < this.#maxPushId) throw fail(H3_ID_ERROR, "MAX_PUSH_ID decreases");
    this.#maxPushId = id;
  }
}

const CONTINUE: UniStreamVerdict = { kind: "continue" };
const IGNORE: UniStreamVerdict = { kind: "ignore" };

function collectInteger(length: number): FrameRule {
  // RFC 9114 §7.1: these payloads are one varint, so more bytes than that are a frame error.
  if (length > 8) throw fail(H3_FRAME_ERROR, "Frame payload is longer than an integer");
  return "collect";
}

function unexpected(type: number): ProtocolError {
  return fail(H3_FRAME_UNEXPECTED, `Frame type 0x${type.toString(16)} is not allowed on a control stream`);
}

function fail(code: number, message: string): ProtocolError {
  return new ProtocolError("connection", code, message);
}
