/**
 * A user's programs at services, run on an agent's host; prints one line of JSON.
 *
 *   websocket URL SIZE       text and SIZE bytes there and back, closed in order
 *   many HOST PORT COUNT     connections that are all open before the first says anything, each echoed its own bytes
 *   datagrams HOST PORT COUNTxSIZE...  so many at once from one socket, and then the next
 *   provoke HOST PORT        says something that the server answers by a reset, and tells how reading ends
 *   abandon HOST PORT        resets the connection when it was greeted
 */

import { once } from "node:events";
import { connect } from "node:net";
import { patternBytes } from "./tunnel_internet.ts";

const CHUNK = 4_096;

async function websocket(url: string, size: number): Promise<unknown> {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  await event(socket, "open");
  socket.send("grüße");
  const text = (await event(socket, "message") as MessageEvent).data;
  const sent = patternBytes(size);
  socket.send(sent);
  const bytes = new Uint8Array((await event(socket, "message") as MessageEvent).data);
  socket.close(1000, "done");
  const { code } = await event(socket, "close") as CloseEvent;
  return { text, intact: isEqual(bytes, sent), code };
}

function event(socket: WebSocket, name: string): Promise<Event> {
  return new Promise((resolve, reject) => {
    socket.addEventListener(name, resolve, { once: true });
    socket.addEventListener("error", () => reject(new Error(`failed before ${name}`)), { once: true });
  });
}

async function many(place: Place, count: number): Promise<unknown> {
  const connections = await Promise.all(Array.from({ length: count }, () => Deno.connect(place)));
  const intact = await Promise.all(connections.map(async (connection, index) => {
    const said = patternBytes(CHUNK).map((byte) => byte ^ index);
    await connection.write(said);
    const heard = new Uint8Array(CHUNK);
    for (let at = 0; at < CHUNK;) {
      const got = await connection.read(heard.subarray(at));
      if (got === null) return false;
      at += got;
    }
    connection.close();
    return isEqual(said, heard);
  }));
  return { intact: intact.filter(Boolean).length };
}

async function datagrams(place: Place, bursts: readonly string[]): Promise<unknown> {
  const hostname = place.hostname.includes(":") ? "::" : "0.0.0.0";
  const socket = Deno.listenDatagram({ transport: "udp", hostname, port: 0 });
  const seen: Record<string, number> = {};
  setTimeout(() => socket.close(), 10_000);
  for (const burst of bursts) {
    const [count = 0, size = 0] = burst.split("x").map(Number);
    const sent = Array.from({ length: count }, (_, index) => patternBytes(size).map((byte) => byte ^ index));
    for (const bytes of sent) await socket.send(bytes, { ...place, transport: "udp" });
    seen[burst] = 0;
    for (const _ of sent) {
      const [heard] = await socket.receive(new Uint8Array(65_536)).catch(() => [new Uint8Array()]);
      const index = sent.findIndex((bytes) => isEqual(bytes, heard));
      if (index >= 0) seen[burst]++;
    }
  }
  return seen;
}

async function provoke(place: Place): Promise<unknown> {
  using connection = await Deno.connect(place);
  await connection.read(new Uint8Array(64));
  await connection.write(new Uint8Array(1_000));
  const end = await connection.read(new Uint8Array(64)).catch((error: Error) => error.name);
  return { end };
}

async function abandon({ hostname, port }: Place): Promise<unknown> {
  const socket = connect(port, hostname);
  const [greeting] = await once(socket, "data");
  socket.resetAndDestroy();
  await once(socket, "close");
  return { greeting: greeting.toString().trim() };
}

interface Place {
  readonly hostname: string;
  readonly port: number;
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

if (import.meta.main) {
  const [kind, first = "", second = "", ...rest] = Deno.args;
  const place = { hostname: first, port: Number(second) };
  const result = kind === "websocket"
    ? await websocket(first, Number(second))
    : kind === "many"
    ? await many(place, Number(rest[0]))
    : kind === "datagrams"
    ? await datagrams(place, rest)
    : await (kind === "provoke" ? provoke : abandon)(place);
  console.log(JSON.stringify(result));
  Deno.exit(0);
}
