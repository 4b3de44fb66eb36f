/** The lines of a relay's view stream, read as messages. */

import { utf8Decode } from "../../base/bytes.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { type ViewMessage, viewMessageSchema } from "../../wire/control/messages.ts";
import { LineReader } from "./line_reader.ts";

/** Hands every message to `take`, one after the other; resolves when the stream ends, rejects when it breaks. */
export async function readViewStream(
  body: ByteChannel,
  take: (message: ViewMessage) => Promise<void>,
): Promise<void> {
  const lines = new LineReader();
  for (let bytes = await body.read(); bytes !== null; bytes = await body.read()) {
    for (const line of lines.push(bytes)) {
      const message = viewMessageSchema.safeParse(JSON.parse(utf8Decode(line)));
      // A message that a newer relay says otherwise is skipped.
      if (message.success) await take(message.data);
    }
  }
}
