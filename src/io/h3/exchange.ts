/**
 * A client's request and its answer on one request stream.
 */

import { ChannelResetError } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { DatagramPort, Exchange, RequestOptions } from "../../dataplane/carrier.ts";
import type { Field } from "../../wire/qpack/static_table.ts";
import type { MessageChannel } from "./message_channel.ts";

/** What an exchange is made from, besides what the caller asked for. */
export interface ExchangeOptions extends RequestOptions {
  readonly fields: readonly Field[];
  readonly datagrams: DatagramPort;
}

/** Sends `fields` and waits for the response head; aborting gives the stream up. */
export async function exchange(stream: MessageChannel, options: ExchangeOptions): Promise<Exchange> {
  const { fields, datagrams, signal, end = false } = options;
  const onAbort = () => stream.abort();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    await stream.sendHead(fields, { end });
    const event = await stream.readHead();
    if (event.kind !== "response") throw new TypeError("Expected a response");
    return { head: event.head, body: stream, datagrams };
  } catch (error) {
    stream.abort();
    signal?.throwIfAborted();
    if (error instanceof ChannelResetError) throw error;
    throw new ChannelResetError(`No answer to the request: ${errorMessage(error)}`, { cause: error });
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}
