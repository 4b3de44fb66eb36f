/**
 * A proxy that takes every request for an IP tunnel and then says what it is told, whatever that is: PORT IDENTITY_FILE
 * HEX. The identity, a relay's, is what its certificate names. Prints `ready`, `request`, and `ended` when the peer
 * has ended the tunnel.
 */

import { fromHex } from "../../src/base/bytes.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { ServerConnection, ServerRequest } from "../../src/dataplane/carrier.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { listenQuic } from "../../src/io/quic/listener.ts";

async function main([port = "", file = "", hex = ""]: readonly string[]): Promise<void> {
  const identity = await loadIdentity(file);
  const listener = await listenQuic({
    hostname: "0.0.0.0",
    port: Number(port),
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
    logger: SILENT_LOGGER,
  });
  console.log("ready");
  for await (const connection of listener.connections()) void serve(connection, fromHex(hex));
}

async function serve(connection: ServerConnection, words: Uint8Array<ArrayBuffer>): Promise<void> {
  connection.setAuthenticated();
  for await (const request of connection.requests()) void answer(request, words);
}

async function answer(request: ServerRequest, words: Uint8Array<ArrayBuffer>): Promise<void> {
  console.log("request");
  const body = await request.respond({ status: 200 });
  try {
    await body.write(words);
    while (await body.read() !== null) { /* whatever it says */ }
  } catch {
    // Reset by the peer.
  }
  console.log("ended");
}

await main(Deno.args);
