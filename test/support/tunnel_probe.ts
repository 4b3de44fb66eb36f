/**
 * Traffic from inside a host of a tunnel ground, with its content checked; prints one JSON object, or one line per tick.
 *
 *   tcp HOST PORT BYTES         sends a pattern to an echo service, half-closes, compares what comes back
 *   udp HOST PORT COUNT SIZE    the same in datagrams, 32 under way at a time
 *   ticks HOST PORT SILENCE     one line there and back every 20 ms over one TCP connection, until it breaks or
 *                               no answer came for SILENCE ms
 */

import { patternBytes, sha256 } from "./tunnel_internet.ts";

/** What a TCP transfer came to. */
export interface TcpTransfer {
  readonly sent: number;
  readonly received: number;
  readonly intact: boolean;
}

/** What a UDP transfer came to. */
export interface UdpTransfer {
  readonly sent: number;
  /** Distinct datagrams that came back whole. */
  readonly received: number;
  readonly corrupt: number;
  readonly duplicate: number;
}

const UDP_AT_ONCE = 32;
/** After this long without an answer what is under way counts as lost. */
const UDP_SILENCE_MS = 1_000;
const TICK_MS = 20;
const HEADER_SIZE = 8;

interface Place {
  readonly hostname: string;
  readonly port: number;
}

async function tcp(place: Place, [size]: readonly string[]): Promise<TcpTransfer> {
  const sent = patternBytes(Number(size));
  using connection = await Deno.connect(place);
  const writing = writeAll(connection, sent);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const buffer = new Uint8Array(65_536);
  for (let got = await connection.read(buffer); got !== null; got = await connection.read(buffer)) {
    parts.push(buffer.slice(0, got));
  }
  await writing;
  const received = new Uint8Array(await new Blob(parts).arrayBuffer());
  return {
    sent: sent.length,
    received: received.length,
    intact: await sha256(received) === await sha256(sent),
  };
}

async function writeAll(connection: Deno.TcpConn, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at, at + 65_536));
  await connection.closeWrite();
}

async function udp(place: Place, [count, size]: readonly string[]): Promise<UdpTransfer> {
  const socket = Deno.listenDatagram({
    hostname: place.hostname.includes(":") ? "::" : "0.0.0.0",
    port: 0,
    transport: "udp",
  });
  const body = patternBytes(Number(size));
  const seen = new Set<number>();
  let corrupt = 0, duplicate = 0, sent = 0;
  const send = async () => {
    const datagram = body.slice();
    new DataView(datagram.buffer).setUint32(0, sent++);
    // A refused send is a lost datagram, which the figures show.
    await socket.send(datagram, { ...place, transport: "udp" }).catch(() => {});
  };
  const take = (bytes: Uint8Array) => {
    const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
    const whole = bytes.length === body.length && number < Number(count) &&
      bytes.every((byte, index) => index < HEADER_SIZE || byte === body[index]);
    if (!whole) corrupt++;
    else if (seen.has(number)) duplicate++;
    else seen.add(number);
  };
  let pending = socket.receive(new Uint8Array(65_536));
  while (sent < Number(count) || seen.size + corrupt < sent) {
    while (sent < Number(count) && sent - seen.size < UDP_AT_ONCE) await send();
    const answer = await within(pending, UDP_SILENCE_MS);
    if (answer === undefined) {
      if (sent >= Number(count)) break;
      // All that was under way is lost: go on with the rest.
      for (let i = 0; i < UDP_AT_ONCE && sent < Number(count); i++) await send();
      continue;
    }
    take(answer[0]);
    pending = socket.receive(new Uint8Array(65_536));
  }
  return { sent, received: seen.size, corrupt, duplicate };
}

async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), milliseconds);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Prints `tick N GAP`, the gap being milliseconds since the answer before, and at the end `broken WHY`. */
async function ticks(place: Place, [silence]: readonly string[]): Promise<void> {
  try {
    using connection = await Deno.connect(place);
    connection.setNoDelay();
    const buffer = new Uint8Array(1_024);
    let last = performance.now();
    for (let number = 1;; number++) {
      await connection.write(new TextEncoder().encode(`${number}\n`));
      const got = await within(connection.read(buffer), Number(silence));
      if (got === undefined) throw new Error(`no answer for ${silence} ms`);
      if (got === null) throw new Error("the other side closed");
      const now = performance.now();
      console.log(`tick ${number} ${Math.round(now - last)}`);
      last = now;
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
  } catch (error) {
    console.log(`broken ${error}`);
  }
}

if (import.meta.main) {
  const [kind, hostname = "", port = "", ...rest] = Deno.args;
  const place = { hostname, port: Number(port) };
  if (kind === "ticks") await ticks(place, rest);
  else console.log(JSON.stringify(kind === "tcp" ? await tcp(place, rest) : await udp(place, rest)));
  Deno.exit(0);
}
