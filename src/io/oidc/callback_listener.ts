/**
 * Where a browser comes back to after a login (RFC 8252 §7.3): a server on loopback that takes one answer and is gone.
 */

import { withSignal } from "../../base/async.ts";

/** A listener for one login. */
export class CallbackListener implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #answer = Promise.withResolvers<URL>();
  readonly #state: string;

  /** Listens at a free port; only an answer that carries `state` counts. */
  constructor(state: string) {
    this.#state = state;
    // RFC 8252 §8.3: the loopback address itself, which no resolver can lead elsewhere.
    const options = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
    this.#server = Deno.serve(options, (request) => this.#handle(request));
  }

  /** The redirect URI to give to the provider. */
  get redirectUri(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/callback`;
  }

  /** Resolves with the address that the browser was sent to. */
  answer(signal: AbortSignal): Promise<URL> {
    return withSignal(this.#answer.promise, signal);
  }

  /** Ends the listener once the browser has its page. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  #handle(request: Request): Response {
    const url = new URL(request.url);
    if (url.pathname !== "/callback" || request.method !== "GET") return page(404, "There is nothing here.");
    // Any page in the browser can send it here: without the state it is nobody's answer, and the wait goes on.
    if (url.searchParams.get("state") !== this.#state) {
      return page(400, "This is not the login that was begun.");
    }
    this.#answer.resolve(url);
    return url.searchParams.has("error")
      ? page(200, "The provider refused the login. The terminal says why; you may close this page.")
      : page(200, "You may close this page and return to the terminal.");
  }
}

function page(status: number, text: string): Response {
  return new Response(`<!doctype html><title>Ginnel</title><p>${text}</p>\n`, {
    status,
    headers: {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": "default-src 'none'",
      "referrer-policy": "no-referrer",
      "cache-control": "no-store",
      "connection": "close",
    },
  });
}
