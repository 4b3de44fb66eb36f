/**
 * Which WebTransport sessions live on a connection, and which of the peer's streams go to which, by their signal.
 */

import type { QuicPipe } from "./quic_pipe.ts";

/** Streams kept whose session does not exist yet: they may overtake its CONNECT request. */
const MAX_EARLY_STREAMS = 8;

/** A stream that the peer gave to a session. */
export interface SessionStream {
  readonly direction: "bidi" | "uni";
  readonly pipe: QuicPipe;
  /** Bytes behind the signal. */
  readonly rest: Uint8Array<ArrayBuffer>;
  /** To be called when both directions have ended. */
  readonly onDone?: () => void;
}

/** What a session takes from its connection. */
export interface SessionSink {
  onStream(stream: SessionStream): void;
  /** The connection has ended. */
  onConnectionClosed(): void;
}

/** The sessions of one connection by their id, the stream id of their CONNECT request. */
export class SessionTable {
  readonly #sinks = new Map<number, SessionSink>();
  #early: { readonly sessionId: number; readonly stream: SessionStream }[] = [];

  /** Adds a session and hands it the streams that came before it. */
  add(sessionId: number, sink: SessionSink): void {
    this.#sinks.set(sessionId, sink);
    const early = this.#early;
    this.#early = early.filter((entry) => entry.sessionId !== sessionId);
    for (const entry of early) if (entry.sessionId === sessionId) sink.onStream(entry.stream);
  }

  /** Removes a session that has ended. */
  remove(sessionId: number): void {
    this.#sinks.delete(sessionId);
  }

  /** Routes a stream. */
  deliver(sessionId: number, stream: SessionStream): void {
    const sink = this.#sinks.get(sessionId);
    if (sink !== undefined) return sink.onStream(stream);
    this.#early.push({ sessionId, stream });
    // The oldest most likely belongs to a session that has ended already.
    if (this.#early.length > MAX_EARLY_STREAMS) dropStream(this.#early.shift()?.stream);
  }

  /** The connection has ended. */
  closeAll(): void {
    for (const sink of [...this.#sinks.values()]) sink.onConnectionClosed();
    this.#sinks.clear();
    for (const { stream } of this.#early.splice(0)) dropStream(stream);
  }
}

function dropStream(stream: SessionStream | undefined): void {
  stream?.pipe.abort();
  stream?.onDone?.();
}
