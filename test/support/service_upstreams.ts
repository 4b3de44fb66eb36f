/**
 * What stands behind services, run as a program on a connector's host: nobody but that host reaches it. Prints "ready",
 * and a line for every connection of the blunt server that ends.
 */

import { createServer, type Socket } from "node:net";

/** Its ports on 127.0.0.1. */
export const UPSTREAM_PORTS = { echo: 7, blunt: 9, web: 8080 } as const;

const HOSTNAME = "127.0.0.1";

/** `/get`, `/delay/SECONDS`, `POST /post` (what was sent) and `/ws` (an echo). */
async function serveWeb(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/ws") {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => socket.send(data);
    return response;
  }
  const [, seconds] = /^\/delay\/(\d)$/.exec(pathname) ?? [];
  if (seconds !== undefined) await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1_000));
  if (request.method === "POST" && pathname === "/post") return new Response(await request.bytes());
  const { host } = new URL(request.url);
  return Response.json({ path: pathname, host });
}

async function echoTcp(listener: Deno.Listener): Promise<void> {
  for await (const connection of listener) {
    connection.readable.pipeTo(connection.writable).catch(() => {/* a peer that is cut off ends it too */});
  }
}

async function echoUdp(): Promise<void> {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: HOSTNAME, port: UPSTREAM_PORTS.echo });
  for (;;) {
    const [bytes, from] = await socket.receive(new Uint8Array(65_536));
    await socket.send(bytes, from).catch(() => {/* lost, as UDP may be */});
  }
}

/** Greets, and resets the connection on the first word. */
function serveBluntly(socket: Socket): void {
  socket.write("hello\n");
  socket.once("data", () => {
    console.log("blunt resets");
    socket.resetAndDestroy();
  });
  socket.once("error", ({ code }: { readonly code?: string }) => console.log(`blunt hears ${code}`));
  socket.once("end", () => console.log("blunt hears the end"));
}

if (import.meta.main) {
  const listen = (port: number) => Deno.listen({ hostname: HOSTNAME, port });
  Deno.serve({ hostname: HOSTNAME, port: UPSTREAM_PORTS.web, onListen: () => {} }, serveWeb);
  void echoTcp(listen(UPSTREAM_PORTS.echo));
  createServer(serveBluntly).listen(UPSTREAM_PORTS.blunt, HOSTNAME);
  void echoUdp();
  console.log("ready");
}
