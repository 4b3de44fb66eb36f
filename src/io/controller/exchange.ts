/** One request on one connection to one controller, verified by the network's own CA and the controller's name. */

import type { ClientRequest, IncomingMessage } from "node:http";
import { type Agent, request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import { serverName } from "../../identity/spiffe_id.ts";
import { GinnelError } from "../../base/errors.ts";

/** What to send, to whom, and for how long to wait. */
export interface Attempt {
  readonly place: { readonly name: string; readonly url: string };
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  readonly roots: readonly string[];
  /** Where connections are kept; undefined: a connection of its own. */
  readonly agent: Agent | undefined;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly connectTimeoutMs: number;
}

/** There was no answer: the connection could not be made, or ended; `cause` says why. */
export class ConnectionFault extends Error {
  override readonly name = "ConnectionFault";
  /** Whether the controller may have seen the request. */
  readonly sent: boolean;
  /** Whether the connection had served another request before. */
  readonly reused: boolean;

  constructor(cause: unknown, facts: { readonly sent: boolean; readonly reused: boolean }) {
    super("No answer from the controller", { cause });
    this.sent = facts.sent;
    this.reused = facts.reused;
  }
}

/** Sends it and gives the answer to `read`; throws a {@linkcode ConnectionFault}, or what `read` throws of its own. */
export async function exchange<T>(
  attempt: Attempt,
  read: (message: IncomingMessage) => Promise<T>,
  options: { readonly isStream: boolean },
): Promise<T> {
  const request = open(attempt);
  const state = { sent: false };
  const fail = (reason: Error) => request.destroy(reason);
  const connecting = setTimeout(
    () => fail(new Error(`not connected within ${attempt.connectTimeoutMs} ms`)),
    attempt.connectTimeoutMs,
  );
  const waiting = setTimeout(
    () => fail(new Error(`no answer within ${attempt.timeoutMs} ms`)),
    attempt.timeoutMs,
  );
  const onAbort = () => fail(new Error("aborted"));
  attempt.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const message = await response(request, () => {
      state.sent = true;
      clearTimeout(connecting);
      request.end(attempt.body);
    });
    const answer = await read(message);
    // A stream outlives the exchange; whoever reads it ends it.
    if (!options.isStream) message.resume();
    return answer;
  } catch (cause) {
    request.destroy();
    if (cause instanceof GinnelError) throw cause;
    throw new ConnectionFault(cause, { sent: state.sent, reused: request.reusedSocket });
  } finally {
    clearTimeout(connecting);
    clearTimeout(waiting);
    attempt.signal?.removeEventListener("abort", onAbort);
  }
}

function open(attempt: Attempt): ClientRequest {
  const { place, body, headers } = attempt;
  const url = new URL(place.url);
  return httpsRequest({
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? 443 : Number(url.port),
    servername: serverName("controller", place.name),
    ca: [...attempt.roots],
    method: attempt.method,
    path: attempt.path,
    headers: {
      host: url.host,
      ...headers,
      ...(body === undefined ? {} : { "content-length": String(new TextEncoder().encode(body).length) }),
    },
    agent: attempt.agent ?? false,
  });
}

/** Calls `onVerified` once it is certain whom the connection leads to: not a byte of the request leaves before. */
function response(request: ClientRequest, onVerified: () => void): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.on("error", reject);
    request.once("response", resolve);
    request.once("close", () => reject(new Error("the connection ended before the answer")));
    request.once("socket", (socket: Socket) => {
      if (!request.reusedSocket) socket.once("secureConnect", onVerified);
      else onVerified();
    });
  });
}
