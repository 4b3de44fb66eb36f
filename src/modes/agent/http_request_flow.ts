/**
 * Carries one HTTP request and its response through a flow. What a client sends after its request is not passed
 * on: it may be meant for another service.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { GinnelError } from "../../base/errors.ts";
import { splice } from "../../dataplane/splice.ts";
import type { HttpRequestBody } from "../../wire/http_body.ts";

/** The request to carry. */
export interface CarryRequestOptions {
  /** The head as the service gets it. */
  readonly head: Uint8Array;
  /** Tells where the content ends. */
  readonly body: HttpRequestBody;
  readonly signal: AbortSignal;
}

/** Sends the request, then carries its content and the response to their end. */
export async function carryRequest(
  client: ByteChannel,
  flow: ByteChannel,
  options: CarryRequestOptions,
): Promise<void> {
  try {
    await flow.write(options.head);
  } catch (error) {
    flow.abort(error);
    throw error;
  }
  await splice(new OneRequestChannel(client, options.body), flow, { signal: options.signal });
}

/** A client's channel that reads no further than the end of its request. */
class OneRequestChannel implements ByteChannel {
  readonly #client: ByteChannel;
  readonly #body: HttpRequestBody;

  constructor(client: ByteChannel, body: HttpRequestBody) {
    this.#client = client;
    this.#body = body;
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | null> {
    const ended = this.#body.ended;
    const bytes = await this.#client.read();
    // A client that waits for its response must not look like one that has left: the flow stays whole until
    // the client closes.
    if (bytes === null) return null;
    const length = ended ? 0 : this.#body.push(bytes);
    if (length === bytes.length) return bytes;
    throw new GinnelError("ERR_CLIENT_PIPELINED", "The client sent more than one request on a connection");
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#client.write(bytes);
  }

  closeWrite(): Promise<void> {
    return this.#client.closeWrite();
  }

  abort(reason?: unknown): void {
    this.#client.abort(reason);
  }
}
