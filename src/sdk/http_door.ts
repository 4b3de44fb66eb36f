/**
 * The way of the runtime's `fetch` and `WebSocket` into the network: a unix socket in a private folder, which they take
 * for a proxy of every host. A connection there is one flow to one service and carries as many requests, one after the
 * other, as the service lets it. Nothing is ever resolved or dialled on the machine's own network.
 */

import { concat } from "../base/bytes.ts";
import type { ByteChannel } from "../base/channel.ts";
import { errorCode, errorMessage, GinnelError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { socketChannel } from "../io/tcp/socket_channel.ts";
import { flowFailure } from "../modes/agent/local_flow.ts";
import {
  decodeRequestHead,
  encodeProxyResponse,
  fieldValues,
  type HttpRequestHead,
} from "../wire/http_connect.ts";
import { HttpRequestBody } from "../wire/http_body.ts";

/** What a door needs. */
export interface HttpDoorOptions {
  /** Private folder for its socket. */
  readonly folder: string;
  /** Opens the flow that a URL's origin means, with TLS inside for `https:`. */
  readonly connect: (origin: URL, signal: AbortSignal) => Promise<ByteChannel>;
  readonly logger: Logger;
}

/** Field by which the door says that an answer is its own and which error it stands for. */
const ERROR_FIELD = "ginnel-error";

/** Errors kept until they are asked for. */
const MAX_ERRORS = 1_024;

/** Variables by which the runtime would leave hosts out of the proxy, and reach for them on the machine's network. */
const EXEMPTIONS = ["NO_PROXY", "no_proxy"];

/** The door and the client that goes through it. */
export class HttpDoor implements AsyncDisposable {
  readonly client: Deno.HttpClient;
  readonly #options: HttpDoorOptions;
  readonly #listener: Deno.UnixListener;
  readonly #accepting: Promise<void>;
  readonly #serving = new Map<AbortController, Promise<void>>();
  readonly #errors = new Map<string, unknown>();

  constructor(options: HttpDoorOptions) {
    this.#options = options;
    const path = `${options.folder}/http.sock`;
    this.#listener = Deno.listen({ transport: "unix", path });
    this.client = createClient(path);
    this.#accepting = this.#accept();
  }

  /** Returns the response, or throws the error for which it stands. */
  async unwrap(response: Response): Promise<Response> {
    const id = response.headers.get(ERROR_FIELD);
    // Only the door knows these ids: a service cannot name one.
    if (id === null || !this.#errors.has(id)) return response;
    const error = this.#errors.get(id);
    this.#errors.delete(id);
    await response.body?.cancel();
    throw error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close();
    this.#listener.close();
    const reason = new GinnelError("ERR_STOPPED", "The network was closed");
    for (const ending of this.#serving.keys()) ending.abort(reason);
    await this.#accepting;
    await Promise.all(this.#serving.values());
  }

  async #accept(): Promise<void> {
    for await (const conn of this.#listener) {
      const ending = new AbortController();
      const channel = socketChannel(conn);
      const serving = this.#serve(channel, ending.signal).finally(() => this.#serving.delete(ending));
      this.#serving.set(ending, serving);
    }
  }

  async #serve(client: ByteChannel, signal: AbortSignal): Promise<void> {
    const reader = new RequestReader(client);
    const flow: { channel?: ByteChannel | undefined } = {};
    const abort = () => {
      client.abort(signal.reason);
      flow.channel?.abort(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    try {
      const first = await reader.head();
      if (first === undefined) return await client.closeWrite();
      flow.channel = await this.#open(first.url, { client, signal });
      if (flow.channel === undefined) return;
      await carry({ client, reader, flow: flow.channel, first });
    } catch (error) {
      this.#options.logger.debug("http_flow_failed", { code: errorCode(error), detail: errorMessage(error) });
      flow.channel?.abort(error);
      client.abort(error);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** Opens the flow; where there is none the client is told which error to look up, and undefined returned. */
  async #open(
    url: URL,
    { client, signal }: { readonly client: ByteChannel; readonly signal: AbortSignal },
  ): Promise<ByteChannel | undefined> {
    try {
      const channel = await this.#options.connect(url, signal);
      if (!signal.aborted) return channel;
      channel.abort(signal.reason);
      throw signal.reason;
    } catch (error) {
      signal.throwIfAborted();
      const id = crypto.randomUUID();
      const [oldest] = this.#errors.keys();
      if (this.#errors.size >= MAX_ERRORS) this.#errors.delete(oldest!);
      this.#errors.set(id, error);
      const { status, details } = flowFailure(error);
      await client.write(encodeProxyResponse(status, details, [[ERROR_FIELD, id]]));
      await client.closeWrite();
      return undefined;
    }
  }
}

/** A request as the service gets it. */
interface PassedRequest {
  readonly url: URL;
  readonly head: Uint8Array;
  readonly body: HttpRequestBody;
  /** What follows the head is not HTTP any more, if the service agrees. */
  readonly isUpgrade: boolean;
}

/** Carries the requests of one connection to one service, and what comes back. */
async function carry(
  { client, reader, flow, first }: {
    readonly client: ByteChannel;
    readonly reader: RequestReader;
    readonly flow: ByteChannel;
    readonly first: PassedRequest;
  },
): Promise<void> {
  const answers = pump(flow, client);
  const requests = (async () => {
    const { origin } = first.url;
    for (
      let request: PassedRequest | undefined = first;
      request !== undefined;
      request = await reader.head()
    ) {
      if (request.url.origin !== origin) {
        throw new GinnelError(
          "ERR_HTTP_ORIGIN",
          "A connection serves one origin",
        );
      }
      await flow.write(request.head);
      while (request.isUpgrade || !request.body.ended) {
        const bytes = await reader.next(request);
        if (bytes === null) return await flow.closeWrite();
        await flow.write(bytes);
      }
    }
    await flow.closeWrite();
  })();
  // The service may end first, and the client then has nothing more to say to it.
  await Promise.all([
    answers.then(() => client.closeWrite()),
    requests.catch((error) => Promise.reject(error)),
  ]);
}

async function pump(from: ByteChannel, to: ByteChannel): Promise<void> {
  for (let bytes = await from.read(); bytes !== null; bytes = await from.read()) await to.write(bytes);
}

/** Reads the requests of our own client. */
class RequestReader {
  readonly #client: ByteChannel;
  #held: Uint8Array<ArrayBuffer> = new Uint8Array();

  constructor(client: ByteChannel) {
    this.#client = client;
  }

  /** The next request's head, in the form that a service understands; undefined at the end. */
  async head(): Promise<PassedRequest | undefined> {
    for (;;) {
      const head = this.#held.length === 0 ? undefined : decodeRequestHead(this.#held);
      if (head !== undefined) {
        const bytes = this.#held.subarray(0, head.length);
        this.#held = this.#held.subarray(head.length);
        return passOn(head, bytes);
      }
      const bytes = await this.#client.read();
      if (bytes === null) {
        if (this.#held.length === 0) return undefined;
        throw new GinnelError("ERR_CLIENT_ENDED", "The client ended inside a request's head");
      }
      this.#held = concat([this.#held, bytes]);
    }
  }

  /** The next bytes that belong to a request, or null when the client ends. */
  async next({ isUpgrade, body }: PassedRequest): Promise<Uint8Array | null> {
    const bytes = this.#held.length > 0 ? this.#held : await this.#client.read();
    this.#held = new Uint8Array();
    if (bytes === null || isUpgrade) return bytes;
    const length = body.push(bytes);
    if (length < bytes.length) this.#held = bytes.slice(length);
    return bytes.subarray(0, length);
  }
}

/** Turns the absolute form, in which a proxy is asked, into the origin form; everything else stays. */
function passOn(head: HttpRequestHead, bytes: Uint8Array): PassedRequest {
  const url = new URL(head.target);
  const line = new TextEncoder().encode(`${head.method} ${url.pathname}${url.search} HTTP/${head.version}`);
  return {
    url,
    head: concat([line, bytes.subarray(bytes.indexOf(0x0d))]),
    body: new HttpRequestBody(head),
    isUpgrade: fieldValues(head.fields, "upgrade").length > 0,
  };
}

/** A client whose every request goes by the socket, whatever the environment says. */
function createClient(path: string): Deno.HttpClient {
  const saved = EXEMPTIONS.map((name) => [name, Deno.env.get(name)] as const);
  for (const [name] of saved) Deno.env.delete(name);
  try {
    return Deno.createHttpClient({ proxy: { transport: "unix", path } });
  } finally {
    for (const [name, value] of saved) if (value !== undefined) Deno.env.set(name, value);
  }
}
