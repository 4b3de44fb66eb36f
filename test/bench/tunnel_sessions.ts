/**
 * Opens many IP tunnels to a relay and holds them without sending: RELAY_NAME RELAY_ADDRESS IDENTITY_FILE...
 * Prints "open" when all of them are granted, and keeps them until it is ended.
 */

import { parseHostPort } from "../../src/base/address.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { Exchange } from "../../src/dataplane/carrier.ts";
import { type Identity, loadIdentity } from "../../src/identity/identity_file.ts";
import { createProof } from "../../src/identity/proof.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { QuicDialer } from "../../src/io/quic/dialer.ts";
import { ipPath } from "../../src/wire/masque/uri.ts";

/** Dials under way at once: within what a relay allows strangers. */
const AT_ONCE = 16;
const DIAL_TIMEOUT_MS = 20_000;

const [relayName = "", relayAddress = "", ...identityFiles] = Deno.args;
const dialer = new QuicDialer({ logger: SILENT_LOGGER });
const files = identityFiles.values();
await Promise.all(Array.from({ length: AT_ONCE }, async () => {
  for (const file of files) await openTunnel(await loadIdentity(file));
}));
console.log("open");

async function openTunnel(identity: Identity): Promise<void> {
  const serverName = relayServerName(relayName);
  const connection = await dialer.dial({
    address: parseHostPort(relayAddress),
    serverName,
    roots: identity.trust.roots,
    signal: AbortSignal.timeout(DIAL_TIMEOUT_MS),
  });
  const proof = await createProof({ identity, audience: relayName, now: Date.now() });
  const target = { scheme: "https", authority: serverName } as const;
  const view = await connection.request({
    ...target,
    ...{ method: "GET", path: "/.well-known/ginnel/view", headers: [["authorization", `Bearer ${proof}`]] },
  }, { end: true });
  const tunnel = await connection.request({
    ...target,
    ...{ method: "CONNECT", protocol: "connect-ip", path: ipPath({ target: "*", ipproto: "*" }) },
    headers: [["capsule-protocol", "?1"]],
  });
  for (const { head: { status } } of [view, tunnel]) {
    if (status !== 200) throw new Error(`The relay answered ${status}`);
  }
  await tunnel.body.read();
  void drain(view);
  void drain(tunnel);
}

/** Keeps reading, as an agent does; ends with the process. */
async function drain({ body }: Exchange): Promise<void> {
  while (await body.read() !== null) { /* views and capsules that nobody wants here */ }
  console.log("a stream ended");
}
