/**
 * The body of `GET /.well-known/ginnel/view`: one JSON message a line, for as long as the connection lives. A
 * reader that falls behind gets the newest view, not every one.
 */

import { utf8 } from "../../base/bytes.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ViewMessage } from "../../wire/control/messages.ts";

/** Writes view messages to one peer. */
export class ViewStream {
  readonly #body: ByteChannel;
  readonly #logger: Logger;
  readonly #queue = new Map<ViewMessage["type"], ViewMessage>();
  #writing = false;
  #ended = false;

  constructor(body: ByteChannel, logger: Logger) {
    this.#body = body;
    this.#logger = logger;
  }

  /** Queues a message in place of an unsent one of its type, so at most one of each type waits. */
  send(message: ViewMessage): void {
    if (this.#ended) return;
    this.#queue.set(message.type, message);
    if (!this.#writing) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#writing = true;
    try {
      for (;;) {
        const next = this.#queue.entries().next();
        if (next.done) break;
        const [type, message] = next.value;
        this.#queue.delete(type);
        await this.#body.write(utf8(JSON.stringify(message) + "\n"));
      }
    } catch (error) {
      this.#ended = true;
      this.#logger.debug("view_stream_ended", { detail: errorMessage(error) });
    }
    this.#writing = false;
  }
}
