/**
 * An HTTP and WebSocket service that exists in the network only: no port of this machine leads to it.
 *
 *     GINNEL_IDENTITY_FILE=identity.json deno run -A --unstable-net config/examples/dark_service.ts
 *
 * The identity is one of type connector that policy lets Bind the service. `GINNEL_SERVICE_NAME` is `rtmx-sync` by
 * default, `GINNEL_RELAYS` (`relay-1=relay-1.example.net:4433`) is for networks without a controller.
 */

import { Ginnel } from "@ginnel/ginnel/sdk";

const identity = Deno.env.get("GINNEL_IDENTITY_FILE") ?? "/etc/rtmx-sync/identity.json";
const name = Deno.env.get("GINNEL_SERVICE_NAME") ?? "rtmx-sync";
const relays = (Deno.env.get("GINNEL_RELAYS") ?? "").split(",").filter(Boolean).map((entry) => {
  const [name = "", address = ""] = entry.split("=");
  return { name, address };
});

await using net = await Ginnel.open(identity, { relays });

/** Everybody who is connected hears what anybody says. */
const sockets = new Set<WebSocket>();

const service = net.serve(name, (request, { caller }) => {
  const { pathname } = new URL(request.url);
  if (request.headers.get("upgrade") === "websocket") {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onopen = () => sockets.add(socket);
    socket.onclose = () => sockets.delete(socket);
    socket.onmessage = ({ data }) => sockets.forEach((other) => other.send(`${caller}: ${data}`));
    return response;
  }
  if (pathname === "/health") return Response.json({ status: "ok" });
  if (pathname === "/whoami") return Response.json({ caller });
  return new Response("Not found\n", { status: 404 });
});

await service.ready;
console.log(`${net.id} offers ${name}`);

const stopped = new Promise<void>((resolve) => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, resolve);
});
await stopped;
