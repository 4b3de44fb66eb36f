/** Bodies of answers: read whole or by lines, never more than a bound. */

import { errorMessage, GinnelError } from "../../base/errors.ts";
import { concat, utf8Decode } from "../../base/bytes.ts";

const LINE_FEED = 0x0a;

/** Reads a body as UTF-8; throws `ERR_CONTROLLER_ANSWER` when it is longer than it may be. */
export async function readAll(
  body: AsyncIterable<Uint8Array>,
  options: { readonly maxLength: number; readonly source: string },
): Promise<string> {
  const { maxLength, source } = options;
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > maxLength) throw refuse(source, `it has more than ${maxLength} bytes`);
    parts.push(part);
  }
  return decode(concat(parts), source);
}

/** Reads the lines of a body as they come; what follows the last line feed is lost with the connection. */
export async function* readLines(
  body: AsyncIterable<Uint8Array> & { destroy(error?: Error): unknown },
  options: {
    readonly maxLineLength: number;
    readonly source: string;
    readonly signal?: AbortSignal | undefined;
  },
): AsyncIterable<string> {
  const { maxLineLength, source, signal } = options;
  const onAbort = () => body.destroy();
  signal?.addEventListener("abort", onAbort, { once: true });
  let parts: Uint8Array[] = [];
  let length = 0;
  try {
    signal?.throwIfAborted();
    for await (let chunk of body) {
      for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED)) {
        parts.push(chunk.subarray(0, end));
        if (length + end > maxLineLength) throw tooLong(source, maxLineLength);
        yield decode(concat(parts), source);
        parts = [];
        length = 0;
        chunk = chunk.subarray(end + 1);
      }
      length += chunk.length;
      if (length > maxLineLength) throw tooLong(source, maxLineLength);
      if (chunk.length > 0) parts.push(chunk);
    }
    signal?.throwIfAborted();
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof GinnelError) throw cause;
    throw new GinnelError("ERR_CONTROLLER_LOST", `Lost ${source}: ${errorMessage(cause)}`, { cause });
  } finally {
    signal?.removeEventListener("abort", onAbort);
    body.destroy();
  }
}

function decode(bytes: Uint8Array, source: string): string {
  try {
    return utf8Decode(bytes);
  } catch {
    throw refuse(source, "it is not UTF-8");
  }
}

function tooLong(source: string, maxLineLength: number): GinnelError {
  return refuse(source, `a line of it has more than ${maxLineLength} bytes`);
}

function refuse(source: string, reason: string): GinnelError {
  return new GinnelError("ERR_CONTROLLER_ANSWER", `Cannot read the answer of ${source}: ${reason}`);
}
