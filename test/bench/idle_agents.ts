/**
 * Opens many authenticated agent sessions and holds them: IDENTITY_FILE RELAY_NAME RELAY_ADDRESS COUNT.
 * Prints "open" when all of them have their view, and keeps them until it is ended.
 */

import { parseHostPort } from "../../src/base/address.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { type Identity, loadIdentity } from "../../src/identity/identity_file.ts";
import { createProof } from "../../src/identity/proof.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { QuicDialer } from "../../src/io/quic/dialer.ts";

/** Dials under way at once: within what a relay allows strangers. */
const AT_ONCE = 32;
const DIAL_TIMEOUT_MS = 20_000;

const [identityFile = "", relayName = "", relayAddress = "", count = "0"] = Deno.args;
const identity = await loadIdentity(identityFile);
const dialer = new QuicDialer({ logger: SILENT_LOGGER });
let left = Number(count);
await Promise.all(Array.from({ length: AT_ONCE }, async () => {
  while (left-- > 0) await openSession(identity);
}));
console.log("open");

async function openSession(identity: Identity): Promise<void> {
  const signal = AbortSignal.timeout(DIAL_TIMEOUT_MS);
  const serverName = relayServerName(relayName);
  const connection = await dialer.dial({
    address: parseHostPort(relayAddress),
    serverName,
    roots: identity.trust.roots,
    signal,
  });
  const proof = await createProof({ identity, audience: relayName, now: Date.now() });
  const { head, body } = await connection.request({
    method: "GET",
    scheme: "https",
    authority: serverName,
    path: "/.well-known/ginnel/view",
    headers: [["authorization", `Bearer ${proof}`]],
  }, { end: true });
  if (head.status !== 200) throw new Error(`The relay answered ${head.status}`);
  await body.read();
  void hold(body.read());
}

/** Keeps reading, as an agent does; ends with the process. */
async function hold(next: Promise<Uint8Array | null>): Promise<void> {
  await next;
  console.log("a view stream ended or spoke");
}
