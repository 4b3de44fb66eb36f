/**
 * A flow of datagrams whose client has no end-to-end session (RFC 9298): payloads come as bare datagrams and, where they
 * are too large or the client's carrier has none, in DATAGRAM capsules on the flow's stream.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { CapsuleReader } from "../../wire/capsule/capsule.ts";
import { DATAGRAM_CAPSULE } from "../../wire/http_datagram.ts";
import { readVarint, varintLength } from "../../wire/varint.ts";
import type { DatagramPort } from "../carrier.ts";
import { FLOW_DATAGRAM_HEADROOM } from "../flow_datagrams.ts";
import { CapsuleSender } from "../tunnel/capsule_sender.ts";
import type { DatagramFlow } from "./datagram_flow.ts";

const PAYLOAD_CONTEXT = 0;

/** RFC 9298 §5: no UDP payload is longer; here with the context ID in front of it. */
const MAX_VALUE = 65_527 + 8;

const KNOWN_CAPSULES: ReadonlySet<number> = new Set([DATAGRAM_CAPSULE]);

/** Ports copy what they send at once, so that one buffer serves every flow. */
const BUFFER = new Uint8Array(FLOW_DATAGRAM_HEADROOM + 65_536);

/** The connector's end of the flow. */
export class PlainDatagramFlow implements DatagramFlow {
  readonly closed: Promise<Error | undefined>;
  readonly #body: ByteChannel;
  readonly #datagrams: DatagramPort;
  readonly #capsules: CapsuleSender;
  readonly #settle: (error: Error | undefined) => void;
  #handler: ((payload: Uint8Array<ArrayBuffer>) => void) | undefined;
  #ended = false;

  /** `body` is the flow's stream, `datagrams` carries bare payloads. */
  constructor(body: ByteChannel, datagrams: DatagramPort) {
    ({ promise: this.closed, resolve: this.#settle } = Promise.withResolvers<Error | undefined>());
    this.#body = body;
    this.#datagrams = datagrams;
    this.#capsules = new CapsuleSender(body, {
      framing: { type: DATAGRAM_CAPSULE, prefix: [PAYLOAD_CONTEXT] },
      onFailure: (error) => this.#fail(error),
    });
    datagrams.receive((payload) => this.#deliver(payload));
    this.#read().catch((error) => this.#fail(error));
  }

  get maxPayload(): number {
    return this.#datagrams.maxSize;
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    if (this.#ended) return false;
    const { maxSize } = this.#datagrams;
    // Where none can be sent, not even an empty one fits.
    if (end - start > maxSize || maxSize === 0) return this.#capsules.sendPacket(bytes, start, end);
    BUFFER.set(bytes.subarray(start, end), FLOW_DATAGRAM_HEADROOM);
    return this.#datagrams.send(BUFFER, FLOW_DATAGRAM_HEADROOM, FLOW_DATAGRAM_HEADROOM + end - start);
  }

  writable(): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return this.#capsules.isFull ? this.#capsules.room() : this.#datagrams.writable();
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    this.#handler = handler;
  }

  close(reason?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#settle(undefined);
    if (reason === undefined) this.#capsules.close().catch(ignore).then(() => this.#body.abort());
    else this.#abort(reason);
  }

  #deliver(payload: Uint8Array<ArrayBuffer>): void {
    if (!this.#ended) this.#handler?.(payload);
  }

  async #read(): Promise<void> {
    const reader = new CapsuleReader({ maxLength: MAX_VALUE, known: KNOWN_CAPSULES });
    for (let bytes = await this.#body.read(); bytes !== null; bytes = await this.#body.read()) {
      reader.push(bytes);
      for (let capsule = reader.next(); capsule !== undefined; capsule = reader.next()) {
        const payload = payloadOf(capsule.value);
        if (payload !== undefined) this.#deliver(payload);
      }
    }
    reader.end();
    this.close();
  }

  #fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#settle(error instanceof Error ? error : new Error("Flow broke", { cause: error }));
    this.#abort(error);
  }

  #abort(reason: unknown): void {
    this.#capsules.abort(reason);
    this.#body.abort(reason);
  }
}

/** The UDP payload of a capsule; `undefined` in another context. */
function payloadOf(value: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | undefined {
  const size = value.length === 0 ? Infinity : varintLength(value[0]!);
  // RFC 9298 §4: datagrams of a context that is not known are dropped.
  if (value.length < size || readVarint(value, 0) !== PAYLOAD_CONTEXT) return undefined;
  return value.subarray(size);
}

function ignore(): void {}
