/**
 * A peer that is admitted and then sends what no honest one does: RELAY_NAME RELAY_ADDRESS IDENTITY_FILE COUNT. Opens
 * an IP tunnel, sends COUNT broken packets in datagrams of its request, prints `sent N` and whether the tunnel was
 * `open` or `ended` by then, and keeps it until it is ended.
 */

import { parseHostPort } from "../../src/base/address.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { DATAGRAM_HEADROOM } from "../../src/dataplane/carrier.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { createProof } from "../../src/identity/proof.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { QuicDialer } from "../../src/io/quic/dialer.ts";
import { ipPath } from "../../src/wire/masque/uri.ts";
import { patternBytes } from "./tunnel_internet.ts";

const DIAL_TIMEOUT_MS = 20_000;
const MAX_PACKET = 1_100;
/** Time for an answer to what was sent last. */
const SETTLE_MS = 200;

/** An IPv4 header from an address of nobody to the internet's web server, length and checksum left at 0. */
const HEADER = [0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 100, 77, 77, 198, 51, 100, 10];

/** One payload of a datagram, context id first, broken in a way of its own. */
function garbage(number: number): Uint8Array<ArrayBuffer> {
  const noise = patternBytes(2 * MAX_PACKET).slice(number % MAX_PACKET);
  const size = number * 37 % MAX_PACKET;
  const packet = [...HEADER, ...noise.subarray(0, size)];
  packet[2] = packet.length >> 8;
  packet[3] = packet.length & 255;
  if (number % 6 === 1) packet[9] = 253;
  // Every other header's checksum is right, so that packets get past the first look.
  if (number % 12 < 6) [packet[10], packet[11]] = headerChecksum(packet);
  switch (number % 6) {
    case 0: // no IP packet at all
      return new Uint8Array([0, ...noise.subarray(0, size)]);
    case 1: // whole, of a protocol nobody looks into, but from an address that is not the sender's
      return new Uint8Array([0, ...packet]);
    case 2: // cut
      return new Uint8Array([0, ...packet.slice(0, number % packet.length)]);
    case 3: // a context that was never registered
      return new Uint8Array([4, ...packet]);
    case 4: // IPv6 whose extension headers lead nowhere
      return new Uint8Array([
        0,
        0x60,
        0,
        0,
        0,
        0,
        size & 255,
        0,
        64,
        ...noise.subarray(0, 32),
        ...new Array(size).fill(0),
      ]);
    default: // no context id at all, or nothing
      return noise.subarray(0, number % 3);
  }
}

function headerChecksum(header: readonly number[]): readonly [number, number] {
  let sum = 0;
  for (let i = 0; i < HEADER.length; i += 2) sum += (header[i]! << 8) + header[i + 1]!;
  const folded = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
  return [folded >> 8, folded & 255];
}

async function main(
  [relayName = "", address = "", file = "", count = "0"]: readonly string[],
): Promise<void> {
  const identity = await loadIdentity(file);
  const serverName = relayServerName(relayName);
  const connection = await new QuicDialer({ logger: SILENT_LOGGER }).dial({
    address: parseHostPort(address),
    serverName,
    roots: identity.trust.roots,
    signal: AbortSignal.timeout(DIAL_TIMEOUT_MS),
  });
  const proof = await createProof({ identity, audience: relayName, now: Date.now() });
  const to = { scheme: "https", authority: serverName } as const;
  const view = await connection.request({
    ...to,
    ...{ method: "GET", path: "/.well-known/ginnel/view", headers: [["authorization", `Bearer ${proof}`]] },
  }, { end: true });
  const { head, body, datagrams } = await connection.request({
    ...to,
    ...{ method: "CONNECT", protocol: "connect-ip", path: ipPath({ target: "*", ipproto: "*" }) },
    headers: [["capsule-protocol", "?1"]],
  });
  if (view.head.status !== 200 || head.status !== 200) throw new Error(`${view.head.status}, ${head.status}`);
  let ended = false;
  const reading = (async () => {
    while (await body.read() !== null) { /* capsules that nobody wants here */ }
  })().catch(() => {/* reset: it has ended too */}).then(() => ended = true);
  let sent = 0;
  for (let number = 0; number < Number(count) && !ended; number++) {
    const payload = garbage(number);
    const buffer = new Uint8Array(DATAGRAM_HEADROOM + payload.length);
    buffer.set(payload, DATAGRAM_HEADROOM);
    await datagrams.writable();
    if (datagrams.send(buffer, DATAGRAM_HEADROOM, buffer.length)) sent++;
  }
  await Promise.race([reading, new Promise((resolve) => setTimeout(resolve, SETTLE_MS))]);
  console.log(`sent ${sent} ${ended ? "ended" : "open"}`);
  await connection.closed;
}

await main(Deno.args);
