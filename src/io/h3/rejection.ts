/**
 * How a server answers a request whose head it could not take: with a status where HTTP allows one.
 */

import { ProtocolError } from "../../base/errors.ts";
import { responseFields } from "../../wire/h3/message.ts";
import { FieldSectionTooLargeError } from "../../wire/qpack/decoder.ts";
import type { MessageChannel } from "./message_channel.ts";

/** Answers 431 or 400 and ends the stream; a stream that broke is only given up. */
export async function rejectRequest(stream: MessageChannel, error: unknown): Promise<void> {
  const status = rejectionStatus(error);
  if (status !== undefined) {
    try {
      await stream.sendHead(responseFields({ status }), { end: true });
      return stream.cancelRead();
    } catch {
      // The peer went away meanwhile.
    }
  }
  stream.abort();
}

function rejectionStatus(error: unknown): number | undefined {
  // RFC 9114 §4.2.2: a field section that is too large is answered with 431.
  if (error instanceof FieldSectionTooLargeError) return 431;
  // RFC 9114 §4.1.2: a malformed request may be answered with 400 before its stream is closed.
  return error instanceof ProtocolError && error.scope === "stream" ? 400 : undefined;
}
