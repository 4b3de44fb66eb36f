/**
 * Speaks to the network's controllers over HTTPS: each is known by its name in the network, its certificate must come
 * from the network's own CA, and when one cannot be reached the next is asked.
 */

import type { IncomingMessage } from "node:http";
import { Agent } from "node:https";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import { serverName } from "../../identity/spiffe_id.ts";
import { readAll, readLines } from "./body.ts";
import { type Attempt, ConnectionFault, exchange } from "./exchange.ts";

/** A controller as nodes reach it. */
export interface ControllerPlace {
  readonly name: string;
  readonly url: string;
}

/** How to speak to controllers. */
export interface ControllerHttpOptions {
  /** Asked for before each request: lists change while a node runs. */
  readonly controllers: () => readonly ControllerPlace[];
  /** CA certificates of the network, PEM. */
  readonly roots: () => readonly string[];
  /**
   * What to send as `Authorization: Bearer`; a proof is made for each request. The audience is the controller's server
   * name: a relay may be called what a controller is called, and must not be able to use there what it is shown.
   */
  readonly authorization?: (audience: string) => Promise<string>;
  /** Milliseconds a controller has for its whole answer, or for the head of one that is streamed; default 10,000. */
  readonly timeoutMs?: number;
  /** Milliseconds to connect in, before the next controller is asked; default 3,000. */
  readonly connectTimeoutMs?: number;
}

/** One request. */
export interface ControllerRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With the query, such as `/sync/v1/stream?since=7`. */
  readonly path: string;
  /** Sent as the body. */
  readonly json?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /**
   * Whether it may be sent again, to the next controller too, when a connection ends before the answer came or the
   * answer is 503; default: every method but POST and PATCH.
   */
  readonly repeatable?: boolean;
}

/** An answer, whatever its status. */
export interface ControllerResponse {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** The body; undefined when it is empty or not JSON. */
  readonly json: unknown;
  /** Name of the controller that gave it. */
  readonly controller: string;
}

/** A streamed answer. */
export interface ControllerLines {
  readonly status: number;
  /** The body of an answer other than 200. */
  readonly json: unknown;
  /** One text a line; none unless the status is 200. Throws `ERR_CONTROLLER_LOST` when the connection breaks. */
  readonly lines: AsyncIterable<string>;
  readonly controller: string;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_CONNECT_TIMEOUT_MS = 3_000;

/** Largest answer that is not streamed, in bytes. */
const MAX_BODY_LENGTH = 8 << 20;

/** Largest line of a streamed answer, in bytes: a whole network's state is one. */
const MAX_LINE_LENGTH = 64 << 20;

/** Connections kept for later requests. */
const MAX_IDLE_CONNECTIONS = 4;

/** A client of all controllers of one network; the one that answered last is asked first. */
export class ControllerHttp implements Disposable {
  readonly #options: ControllerHttpOptions;
  #agent: { readonly roots: string; readonly agent: Agent } | undefined;
  #preferred: string | undefined;

  constructor(options: ControllerHttpOptions) {
    this.#options = options;
  }

  /** Sends a request and reads the whole answer; throws `ERR_CONTROLLER_*` when there is none. */
  async request(request: ControllerRequest): Promise<ControllerResponse> {
    return await this.#ask(request, async (message, controller) => ({
      status: message.statusCode!,
      headers: headersOf(message),
      json: await readJson(message, controller),
      controller,
    }));
  }

  /** Sends a request whose answer is a line of JSON after another, for as long as it lasts. */
  async lines(
    request: ControllerRequest,
    options: { readonly maxLineLength?: number } = {},
  ): Promise<ControllerLines> {
    const { maxLineLength = MAX_LINE_LENGTH } = options;
    return await this.#ask(request, async (message, controller) => {
      const status = message.statusCode!;
      const isStream = status === 200;
      return {
        status,
        json: isStream ? undefined : await readJson(message, controller),
        lines: isStream
          ? readLines(message, { maxLineLength, signal: request.signal, source: controller })
          : readNothing(),
        controller,
      };
    }, { isStream: true });
  }

  /** Ends the connections that were kept for later requests. */
  [Symbol.dispose](): void {
    this.#agent?.agent.destroy();
    this.#agent = undefined;
  }

  async #ask<T extends { readonly status: number }>(
    request: ControllerRequest,
    read: (message: IncomingMessage, controller: string) => Promise<T>,
    { isStream = false }: { readonly isStream?: boolean } = {},
  ): Promise<T> {
    const { repeatable = request.method !== "POST" && request.method !== "PATCH" } = request;
    const faults: string[] = [];
    let refused: T | undefined;
    for (const place of this.#inOrder()) {
      request.signal?.throwIfAborted();
      // A kept connection may have been closed by the other end just now: what cannot be repeated gets its own.
      for (const isFresh of repeatable && !isStream ? [false, true] : [true]) {
        try {
          const answer = await exchange(
            await this.#attempt(place, request, isFresh),
            (message) => read(message, place.name),
            { isStream },
          );
          // It cannot now, perhaps for want of its database; another one may.
          if (answer.status === 503 && repeatable) {
            refused ??= answer;
            break;
          }
          this.#preferred = place.name;
          return answer;
        } catch (error) {
          request.signal?.throwIfAborted();
          if (!(error instanceof ConnectionFault)) throw error;
          if (error.sent && !repeatable) throw lost(place.name, error);
          if (!isFresh && error.reused) continue;
          faults.push(`${place.name} at ${place.url}: ${errorMessage(error.cause)}`);
          break;
        }
      }
    }
    if (refused !== undefined) return refused;
    throw unreachable(faults);
  }

  async #attempt(place: ControllerPlace, request: ControllerRequest, isFresh: boolean): Promise<Attempt> {
    const { authorization, timeoutMs, connectTimeoutMs } = this.#options;
    const body = request.json === undefined ? undefined : JSON.stringify(request.json);
    return {
      place,
      method: request.method,
      path: request.path,
      headers: {
        accept: "application/json, application/x-ndjson",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...request.headers,
        ...(authorization === undefined
          ? {}
          : { authorization: `Bearer ${await authorization(serverName("controller", place.name))}` }),
      },
      body,
      roots: this.#options.roots(),
      agent: isFresh ? undefined : this.#keptConnections(),
      signal: request.signal,
      timeoutMs: timeoutMs ?? DEFAULT_TIMEOUT_MS,
      connectTimeoutMs: connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS,
    };
  }

  /** Connections are kept for as long as the CAs they were verified under are trusted. */
  #keptConnections(): Agent {
    const roots = this.#options.roots().join();
    if (this.#agent?.roots !== roots) {
      this[Symbol.dispose]();
      this.#agent = { roots, agent: new Agent({ keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS }) };
    }
    return this.#agent!.agent;
  }

  #inOrder(): readonly ControllerPlace[] {
    const places = this.#options.controllers();
    if (places.length === 0) {
      throw new GinnelError("ERR_CONTROLLER_UNKNOWN", "Cannot ask a controller: none is known", {
        hint: "Enrol this identity with: ginnel enroll TOKEN",
      });
    }
    const first = places.find(({ name }) => name === this.#preferred);
    return first === undefined ? places : [first, ...places.filter((place) => place !== first)];
  }
}

async function readJson(message: IncomingMessage, source: string): Promise<unknown> {
  const text = await readAll(message, { maxLength: MAX_BODY_LENGTH, source });
  if (!/^application\/(?:[\w.-]+\+)?json\b/i.test(message.headers["content-type"] ?? "")) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new GinnelError("ERR_CONTROLLER_ANSWER", `Cannot read the answer of ${source}: it is not JSON`, {
      cause,
    });
  }
}

function headersOf(message: IncomingMessage): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(message.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(", ") : String(value);
  }
  return headers;
}

async function* readNothing(): AsyncIterable<string> {}

function lost(name: string, fault: ConnectionFault): GinnelError {
  const message = `Lost ${name} before its answer came: ${errorMessage(fault.cause)}`;
  return new GinnelError("ERR_CONTROLLER_LOST", message, {
    cause: fault,
    hint: "Look whether it was done before asking again",
  });
}

function unreachable(faults: readonly string[]): GinnelError {
  return new GinnelError("ERR_CONTROLLER_UNREACHABLE", `Cannot reach a controller: ${faults.join("; ")}`, {
    hint: "Check that a controller runs, that its address is right, and that nothing in between ends TLS",
  });
}
