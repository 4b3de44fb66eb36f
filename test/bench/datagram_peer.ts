/**
 * The ceiling of a tunnel: QUIC datagrams between two processes with nothing else around them. Prints one JSON line at
 * its end.
 *
 *   receive ADDRESS CERT_FILE KEY_FILE                 prints "listening", counts one connection's datagrams
 *   send ADDRESS NAME ROOT_FILE SIZE MILLISECONDS
 */

import { parseHostPort } from "../../src/base/address.ts";

const ALPN = ["ginnel-bench"];
/** Datagrams handed to the transport before it is waited for; more brings nothing. */
const AT_ONCE = 64;
/** Time for what is under way to arrive before the connection is closed. */
const SETTLE_MS = 300;

async function receive([address = "", certFile = "", keyFile = ""]: readonly string[]): Promise<unknown> {
  const endpoint = new Deno.QuicEndpoint(parseHostPort(address));
  const listener = endpoint.listen({
    cert: await Deno.readTextFile(certFile),
    key: await Deno.readTextFile(keyFile),
    alpnProtocols: ALPN,
    congestionControl: "low-latency",
  });
  console.log("listening");
  const connection = await (await listener.incoming()).accept();
  let received = 0, first = 0, last = 0;
  try {
    for (;;) {
      await connection.readDatagram();
      last = performance.now();
      if (received++ === 0) first = last;
    }
  } catch {
    // The sender has closed the connection: that is how it ends.
    const seconds = (last - first) / 1_000;
    return { received, seconds, perSecond: Math.round(received / seconds) };
  }
}

async function send(args: readonly string[]): Promise<unknown> {
  const [address = "", serverName = "", rootFile = "", size = "", milliseconds = ""] = args;
  const connection = await Deno.connectQuic({
    ...parseHostPort(address),
    serverName,
    caCerts: [await Deno.readTextFile(rootFile)],
    alpnProtocols: ALPN,
    congestionControl: "low-latency",
  });
  const bytes = new Uint8Array(Number(size)).fill(7);
  // Until path MTU discovery has made room for them.
  const giveUp = performance.now() + 5_000;
  while (connection.maxDatagramSize < bytes.length && performance.now() < giveUp) await pause(20);
  let sent = 0, underWay = 0, wake: (() => void) | undefined;
  // Also called for what failed: a connection that is lost shows in the receiver's figure.
  const landed = () => {
    underWay--;
    if (underWay < AT_ONCE) wake?.();
  };
  for (const end = performance.now() + Number(milliseconds); performance.now() < end;) {
    // A whole burst each time: one by one, every datagram would cost a wake-up.
    for (let i = 0; i < AT_ONCE; i++) {
      underWay++;
      connection.sendDatagram(bytes).then(landed, landed);
    }
    sent += AT_ONCE;
    if (underWay >= AT_ONCE) await new Promise<void>((resolve) => wake = resolve);
  }
  await pause(SETTLE_MS);
  connection.close({ closeCode: 0, reason: "" });
  await connection.closed;
  return { sent };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

const [role, ...rest] = Deno.args;
console.log(JSON.stringify(await (role === "receive" ? receive(rest) : send(rest))));
Deno.exit(0);
