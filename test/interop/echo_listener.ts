/**
 * A small HTTP/3 server on the project's own listener, for what a relay does not do for strangers: GET answers 200
 * with a page, a WebTransport session echoes streams and datagrams, and tells how it was closed.
 */

import { utf8 } from "../../src/base/bytes.ts";
import type { ByteChannel } from "../../src/base/channel.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import {
  type CloseInfo,
  DATAGRAM_HEADROOM,
  type ServerConnection,
  type ServerRequest,
  type WebTransportSession,
} from "../../src/dataplane/carrier.ts";
import { listenQuic, type QuicListener, type TlsCredentials } from "../../src/io/quic/listener.ts";

/** Path of the session that the server itself closes, with code 4711 and the reason "enough". */
export const CLOSING_PATH = "/closing";
/** What GET answers, and the size that shows more than one packet. */
export const PAGE = utf8("ginnel\n".repeat(20_000));

/** A running echo server. */
export class EchoListener implements AsyncDisposable {
  readonly #listener: QuicListener;
  readonly #running: Promise<void>;
  readonly #ends: CloseInfo[] = [];
  #onEnd: () => void = () => {};

  private constructor(listener: QuicListener) {
    this.#listener = listener;
    this.#running = this.#accept();
  }

  /** Listens on a free port of loopback. */
  static async start(credentials: TlsCredentials): Promise<EchoListener> {
    return new EchoListener(
      await listenQuic({ hostname: "127.0.0.1", port: 0, logger: SILENT_LOGGER, ...credentials }),
    );
  }

  get port(): number {
    return this.#listener.port;
  }

  /** How the first session ended, once it has. */
  async sessionEnd(): Promise<CloseInfo> {
    while (this.#ends.length === 0) await new Promise<void>((resolve) => this.#onEnd = resolve);
    return this.#ends[0]!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener.close();
    await this.#running;
  }

  async #accept(): Promise<void> {
    const served = [];
    for await (const connection of this.#listener.connections()) served.push(this.#serve(connection));
    await Promise.all(served);
  }

  async #serve(connection: ServerConnection): Promise<void> {
    connection.setAuthenticated();
    const answered = [];
    for await (const request of connection.requests()) answered.push(this.#answer(request));
    await Promise.all(answered);
  }

  async #answer(request: ServerRequest): Promise<void> {
    if (request.head.protocol === "webtransport") return await this.#echoSession(request);
    const isGet = request.head.method === "GET";
    const options = isGet ? { body: PAGE, end: true } : { end: true };
    await request.respond({ status: isGet ? 200 : 405, headers: [["content-type", "text/plain"]] }, options);
  }

  async #echoSession(request: ServerRequest): Promise<void> {
    const session = await request.connection.acceptWebTransport(request);
    if (request.head.path === CLOSING_PATH) await session.close(4711, "enough");
    this.#echoDatagrams(session);
    const work = [this.#echoStreams(session), this.#answerUniStreams(session)];
    this.#ends.push(await session.closed);
    this.#onEnd();
    await Promise.all(work);
  }

  async #echoStreams(session: WebTransportSession): Promise<void> {
    const echoes = [];
    for await (const stream of session.incomingStreams()) echoes.push(untilReset(() => echo(stream)));
    await Promise.all(echoes);
  }

  /** What a one-way stream says comes back on a stream the server opens. */
  async #answerUniStreams(session: WebTransportSession): Promise<void> {
    for await (const stream of session.incomingUniStreams()) {
      await untilReset(async () => {
        const back = await session.openStream();
        for (let bytes = await stream.read(); bytes !== null; bytes = await stream.read()) {
          await back.write(bytes);
        }
        await back.closeWrite();
      });
    }
  }

  #echoDatagrams({ datagrams }: WebTransportSession): void {
    datagrams.receive((payload) => {
      const buffer = new Uint8Array(DATAGRAM_HEADROOM + payload.length);
      buffer.set(payload, DATAGRAM_HEADROOM);
      datagrams.send(buffer, DATAGRAM_HEADROOM, buffer.length);
    });
  }
}

async function echo(stream: ByteChannel): Promise<void> {
  for (let bytes = await stream.read(); bytes !== null; bytes = await stream.read()) {
    await stream.write(bytes);
  }
  await stream.closeWrite();
}

/** A client may leave in the middle of anything; what it must have seen is for the test to assert. */
async function untilReset(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ERR_CHANNEL_RESET")) throw error;
  }
}
