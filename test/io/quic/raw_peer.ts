/**
 * A QUIC peer without HTTP/3: it writes what a test tells it and reads what comes.
 */

import { concat } from "../../../src/base/bytes.ts";
import { NETWORK, SERVER_NAME } from "../support.ts";

/** One endpoint for all of them: the runtime frees a socket only when it is collected. */
const ENDPOINT = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });

/** Connects to a listener of ours. */
export async function connectRaw(
  port: number,
  options: Partial<Deno.ConnectQuicOptions<false>> = {},
): Promise<Deno.QuicConn> {
  return await Deno.connectQuic({
    hostname: "127.0.0.1",
    port,
    serverName: SERVER_NAME,
    caCerts: [NETWORK.root],
    alpnProtocols: ["h3"],
    endpoint: ENDPOINT,
    ...options,
  });
}

/** Opens a one-way stream and writes to it; the stream stays open unless `end`. */
export async function writeUni(
  conn: Deno.QuicConn,
  bytes: Uint8Array,
  options: { readonly end?: boolean } = {},
): Promise<void> {
  const writer = (await conn.createUnidirectionalStream()).getWriter();
  await writer.write(bytes);
  if (options.end) await writer.close();
}

/** Opens a two-way stream, writes to it, ends our direction if `end`, and returns what comes back. */
export async function writeBidi(
  conn: Deno.QuicConn,
  bytes: Uint8Array,
  options: { readonly end?: boolean } = {},
): Promise<{ readonly answer: Promise<Uint8Array>; readonly stream: Deno.QuicBidirectionalStream }> {
  const stream = await conn.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  await writer.write(bytes);
  if (options.end) await writer.close();
  else writer.releaseLock();
  const answer = collect(stream.readable);
  answer.catch(() => {});
  return { answer, stream };
}

async function collect(readable: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of readable) parts.push(part);
  return concat(parts);
}
