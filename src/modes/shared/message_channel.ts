/**
 * Length-prefixed JSON messages on a byte channel: the control stream, and the headers that flows begin with.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { GinnelError } from "../../base/errors.ts";
import { encodeMessage, MessageReader } from "../../wire/control/framing.ts";

/** Anything that validates a message, such as a zod schema. */
export interface MessageSchema<T> {
  safeParse(value: unknown): { success: true; data: T } | { success: false; error: { message: string } };
}

/** A message header was read: `rest` holds the bytes that came after it. */
export interface FirstMessage<T> {
  readonly message: T;
  readonly rest: Uint8Array;
}

/** Reads the one message a stream begins with. */
export async function readFirstMessage<T>(
  channel: ByteChannel,
  schema: MessageSchema<T>,
): Promise<FirstMessage<T>> {
  const reader = new MessageReader();
  for (;;) {
    const value = reader.next();
    if (value !== undefined) return { message: parse(schema, value), rest: reader.rest() };
    const bytes = await channel.read();
    if (bytes === null) {
      throw new GinnelError("ERR_MESSAGE_MISSING", "The stream ended before its first message");
    }
    reader.push(bytes);
  }
}

/** Yields every message until the stream ends. */
export async function* readMessages<T>(channel: ByteChannel, schema: MessageSchema<T>): AsyncGenerator<T> {
  const reader = new MessageReader();
  for (;;) {
    const value = reader.next();
    if (value !== undefined) {
      yield parse(schema, value);
      continue;
    }
    const bytes = await channel.read();
    if (bytes === null) return;
    reader.push(bytes);
  }
}

/** Writes messages to one channel, one after the other, in the order of the calls. */
export class MessageWriter {
  readonly #channel: ByteChannel;
  #last: Promise<void> = Promise.resolve();

  constructor(channel: ByteChannel) {
    this.#channel = channel;
  }

  send(message: unknown): Promise<void> {
    const sent = this.#last.then(() => this.#channel.write(encodeMessage(message)));
    this.#last = sent.catch(() => {});
    return sent;
  }

  /** Resolves when all that was sent so far has been taken, or has failed. */
  flushed(): Promise<void> {
    return this.#last;
  }
}

function parse<T>(schema: MessageSchema<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (!result.success) {
    throw new GinnelError(
      "ERR_MESSAGE_INVALID",
      `The peer sent a message we do not understand: ${result.error.message}`,
    );
  }
  return result.data;
}
