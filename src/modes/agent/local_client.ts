/**
 * The two ways a local client's handshake ends: with a flow, or with an answer that says why not.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { splice } from "../../dataplane/splice.ts";
import { prefixedChannel } from "../shared/prefixed_channel.ts";

/** After a refusal: bytes and milliseconds of the client's that are still read, so that it sees the refusal. */
const LINGER_BYTES = 64 * 1024;
const LINGER_MS = 1_000;

/** How a client's flow starts. */
export interface CarryOptions {
  /** What the client is told first. */
  readonly answer: Uint8Array;
  /** What the client already sent for the flow. */
  readonly first: Uint8Array;
  readonly signal: AbortSignal;
}

/** Tells the client that its flow is open and carries it to its end. */
export async function carryFlow(
  client: ByteChannel,
  flow: ByteChannel,
  options: CarryOptions,
): Promise<void> {
  try {
    await client.write(options.answer);
  } catch (error) {
    flow.abort(error);
    throw error;
  }
  await splice(prefixedChannel(client, options.first), flow, { signal: options.signal });
}

/**
 * Sends a last answer and ends the channel so that the client can read it: bytes of the client's left unread
 * would turn the close into a reset that overtakes the answer.
 */
export async function answerAndEnd(channel: ByteChannel, answer: Uint8Array): Promise<void> {
  const timer = setTimeout(() => channel.abort(), LINGER_MS);
  try {
    await channel.write(answer);
    await channel.closeWrite();
    let left = LINGER_BYTES;
    for (let bytes = await channel.read(); bytes !== null && left > 0; bytes = await channel.read()) {
      left -= bytes.length;
    }
  } finally {
    clearTimeout(timer);
    channel.abort();
  }
}
