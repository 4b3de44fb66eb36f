/**
 * An admitted peer that makes one request of its own: RELAY_NAME RELAY_ADDRESS IDENTITY_FILE REQUEST [HEX]. REQUEST is
 * JSON: method, path and so on. Sends HEX as content when the answer has come, prints the answer's head as JSON, each
 * piece of its content as `body HEX`, and at its end `ended`.
 */

import { parseHostPort } from "../../src/base/address.ts";
import { fromHex, toHex } from "../../src/base/bytes.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { createProof } from "../../src/identity/proof.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { QuicDialer } from "../../src/io/quic/dialer.ts";
import { VIEW_PATH } from "../../src/wire/masque/uri.ts";

const DIAL_TIMEOUT_MS = 20_000;

async function main([relayName = "", address = "", file = "", request = "", hex = ""]: readonly string[]) {
  const identity = await loadIdentity(file);
  const authority = relayServerName(relayName);
  const connection = await new QuicDialer({ logger: SILENT_LOGGER }).dial({
    address: parseHostPort(address),
    serverName: authority,
    roots: identity.trust.roots,
    signal: AbortSignal.timeout(DIAL_TIMEOUT_MS),
  });
  const proof = await createProof({ identity, audience: relayName, now: Date.now() });
  const headers = [["authorization", `Bearer ${proof}`]] as const;
  const view = { method: "GET", scheme: "https", authority, path: VIEW_PATH, headers } as const;
  await connection.request(view, { end: true });
  const { head, body } = await connection.request({ authority, ...JSON.parse(request) });
  console.log(JSON.stringify({ status: head.status, headers: Object.fromEntries(head.headers) }));
  if (hex !== "") await body.write(fromHex(hex));
  try {
    for (let bytes = await body.read(); bytes !== null; bytes = await body.read()) {
      console.log(`body ${toHex(bytes)}`);
    }
  } catch {
    // Reset: it has ended too.
  }
  console.log("ended");
  Deno.exit();
}

await main(Deno.args);
