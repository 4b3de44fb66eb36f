/**
 * Bounds a request's body while it is read: bytes and time, whatever its header fields promise. Nothing is read before a
 * handler asks, so a caller that is refused for other reasons costs no memory.
 */

import type { MiddlewareHandler } from "hono";
import type { ApiEnv } from "./env.ts";
import { problem } from "./problem.ts";

/** Bounds of a body. */
export interface BodyLimits {
  readonly maxBytes: number;
  /** Milliseconds from the first read to the last byte. */
  readonly timeoutMs: number;
}

/** A body broke its bounds. */
export class BodyFault extends Error {
  readonly kind: "too-large" | "timeout";

  constructor(kind: "too-large" | "timeout") {
    super(`request body ${kind}`);
    this.name = "BodyFault";
    this.kind = kind;
  }
}

/** JSON, also a merge patch. */
const JSON_TYPE = /^application\/(?:merge-patch\+)?json *(?:; *charset="?utf-8"? *)?$/i;

/** The answer to a body out of bounds; the connection closes, since the rest of the body is still on it. */
export function bodyProblem({ kind }: BodyFault): Response {
  return problem(kind, { headers: { connection: "close" } });
}

/** Refuses what is not JSON or declares too much, and bounds the reading of the rest. */
export function guardBody(limitsOf: (path: string) => BodyLimits): MiddlewareHandler<ApiEnv> {
  return async (context, next) => {
    const { raw } = context.req;
    if (raw.body === null) return await next();
    const limits = limitsOf(context.req.path);
    // RFC 9110 §8.6: digits only; the platform has joined or refused several fields.
    const declared = raw.headers.get("content-length");
    if (declared !== null && !(Number(declared) <= limits.maxBytes)) {
      return bodyProblem(new BodyFault("too-large"));
    }
    if (raw.headers.has("content-encoding") || (announcesBody(raw) && !isJson(raw))) {
      return problem("unsupported-media-type", { detail: "Send plain application/json in UTF-8" });
    }
    const body = boundedBody(raw.body, limits);
    const { url, method, headers } = raw;
    context.req.raw = new Request(url, { method, headers, body: body.stream });
    await next();
    // Readers wrap a stream's failure in errors of their own; what broke is known here.
    if (body.fault() !== undefined) context.res = bodyProblem(body.fault()!);
  };
}

/** Whether the header says that there is a body. In HTTP/2 it need not; then who reads it sees to its type. */
function announcesBody({ headers }: Request): boolean {
  const length = headers.get("content-length");
  return (length !== null && length !== "0") || headers.has("transfer-encoding") ||
    headers.has("content-type");
}

function isJson({ headers }: Request): boolean {
  return JSON_TYPE.test(headers.get("content-type") ?? "");
}

/** A stream that fails with a {@linkcode BodyFault} once `source` breaks its bounds. */
function boundedBody(
  source: ReadableStream<Uint8Array>,
  { maxBytes, timeoutMs }: BodyLimits,
): { readonly stream: ReadableStream<Uint8Array<ArrayBuffer>>; readonly fault: () => BodyFault | undefined } {
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let fault: BodyFault | undefined;
  let received = 0;
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const fail = (kind: BodyFault["kind"]) => {
        clearTimeout(timer);
        fault = new BodyFault(kind);
        controller.error(fault);
        // The peer may never end its body: nobody waits for it.
        reader?.cancel(fault).catch(() => undefined);
      };
      if (reader === undefined) {
        reader = source.getReader();
        timer = setTimeout(() => fail("timeout"), timeoutMs);
      }
      let chunk: ReadableStreamReadResult<Uint8Array>;
      try {
        chunk = await reader.read();
      } catch (error) {
        clearTimeout(timer);
        throw error;
      }
      if (fault !== undefined) return;
      if (chunk.done) {
        clearTimeout(timer);
        controller.close();
        return;
      }
      received += chunk.value.length;
      if (received > maxBytes) return fail("too-large");
      controller.enqueue(chunk.value as Uint8Array<ArrayBuffer>);
    },
    cancel(reason) {
      clearTimeout(timer);
      return reader?.cancel(reason) ?? source.cancel(reason);
    },
  }, { highWaterMark: 0 });
  return { stream, fault: () => fault };
}
