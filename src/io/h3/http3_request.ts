/**
 * A request at the server, whatever carries its stream.
 */

import type { ByteChannel } from "../../base/channel.ts";
import type {
  DatagramPort,
  RequestHead,
  RespondOptions,
  ResponseInit,
  ServerConnection,
  ServerRequest,
} from "../../dataplane/carrier.ts";
import { responseFields } from "../../wire/h3/message.ts";
import type { MessageChannel } from "./message_channel.ts";

/** What an {@linkcode Http3Request} is made from. */
export interface Http3RequestOptions {
  readonly stream: MessageChannel;
  readonly connection: ServerConnection;
  readonly head: RequestHead;
  readonly datagrams: DatagramPort;
  /** Its stream's id; 0 where a connection is one stream. */
  readonly streamId: number;
}

/** One request, to be answered once. */
export class Http3Request implements ServerRequest {
  readonly head: RequestHead;
  readonly connection: ServerConnection;
  readonly datagrams: DatagramPort;
  readonly streamId: number;
  readonly #stream: MessageChannel;
  #answered = false;

  constructor(options: Http3RequestOptions) {
    this.head = options.head;
    this.connection = options.connection;
    this.datagrams = options.datagrams;
    this.streamId = options.streamId;
    this.#stream = options.stream;
  }

  async respond(head: ResponseInit, options: RespondOptions = {}): Promise<ByteChannel> {
    if (this.#answered) throw new TypeError("Cannot respond: the request is answered already");
    this.#answered = true;
    await this.#stream.sendHead(responseFields(head), options);
    // RFC 9114 §4.1: after a complete response the rest of the request is not wanted.
    if (options.end) this.#stream.cancelRead();
    return this.#stream;
  }
}
