/**
 * Both ends of transfers through a pipe of TUN interfaces, for a process inside a namespace.
 *
 *   serve PORT                     answers TCP and UDP on every address; prints "ready"
 *   tcp HOST PORT BYTES            sends BYTES and gets as many back; prints both digests as the two ends see them
 *   udp HOST PORT FROM TO          sends a datagram of each size and awaits it; prints how many came back whole
 */

import { createHash } from "node:crypto";

/** What both ends saw of a TCP transfer. */
export interface Transfer {
  readonly sent: string;
  readonly arrived: string;
  readonly returned: string;
}

const CHUNK = 65_536;

async function serve(port: number): Promise<void> {
  const listener = Deno.listen({ hostname: "::", port });
  const socket = Deno.listenDatagram({ hostname: "::", port, transport: "udp" });
  console.log("ready");
  (async () => {
    for await (const [datagram, from] of socket) await socket.send(datagram, from).catch(() => {});
  })();
  for await (const connection of listener) answer(connection).catch((error) => console.log(`${error}`));
}

async function answer(connection: Deno.TcpConn): Promise<void> {
  const size = Number(new DataView((await readBytes(connection, 8)).buffer).getBigUint64(0));
  const digest = await digestOf(connection, size);
  await writeAll(connection, digest);
  await send(connection, size);
  connection.close();
}

async function tcp(hostname: string, port: number, size: number): Promise<Transfer> {
  using connection = await Deno.connect({ hostname, port });
  const head = new Uint8Array(8);
  new DataView(head.buffer).setBigUint64(0, BigInt(size));
  await writeAll(connection, head);
  const sent = await send(connection, size);
  const arrived = await readBytes(connection, 32);
  const returned = await digestOf(connection, size);
  return { sent: sent.toHex(), arrived: arrived.toHex(), returned: returned.toHex() };
}

async function udp(place: Deno.NetAddr, from: number, to: number): Promise<number> {
  const socket = Deno.listenDatagram({ hostname: "::", port: 0, transport: "udp" });
  let whole = 0;
  for (let size = from; size <= to; size++) {
    const datagram = pattern(size, size);
    await socket.send(datagram, place);
    const [answer] = await socket.receive(new Uint8Array(65_536));
    if (answer.length === size && answer.every((byte, index) => byte === datagram[index])) whole++;
  }
  socket.close();
  return whole;
}

/** Sends a pattern of `size` bytes; returns its digest. */
async function send(connection: Deno.TcpConn, size: number): Promise<Uint8Array<ArrayBuffer>> {
  const hash = createHash("sha256");
  for (let at = 0; at < size; at += CHUNK) {
    const part = pattern(Math.min(CHUNK, size - at), at / CHUNK);
    hash.update(part);
    await writeAll(connection, part);
  }
  return new Uint8Array(hash.digest());
}

async function digestOf(connection: Deno.TcpConn, size: number): Promise<Uint8Array<ArrayBuffer>> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(CHUNK);
  for (let left = size; left > 0;) {
    const got = await connection.read(buffer.subarray(0, Math.min(left, CHUNK)));
    if (got === null) break;
    hash.update(buffer.subarray(0, got));
    left -= got;
  }
  return new Uint8Array(hash.digest());
}

async function readBytes(connection: Deno.TcpConn, size: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size;) {
    const got = await connection.read(bytes.subarray(at));
    if (got === null) throw new Error(`Ended after ${at} of ${size} bytes`);
    at += got;
  }
  return bytes;
}

async function writeAll(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

function pattern(size: number, seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  for (let index = 0; index < size; index++) bytes[index] = index * 31 + (index >> 8) + seed * 17;
  return bytes;
}

if (import.meta.main) {
  const [command, host = "", ...rest] = Deno.args;
  const [port = 0, ...numbers] = rest.map(Number);
  const [first = 0, second = 0] = numbers;
  if (command === "serve") await serve(Number(host));
  else if (command === "tcp") console.log(JSON.stringify(await tcp(host, port, first)));
  else console.log(JSON.stringify(await udp({ transport: "udp", hostname: host, port }, first, second)));
}
