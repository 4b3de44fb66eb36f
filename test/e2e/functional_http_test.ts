/** HTTP, WebSocket and bulk data through every front end, over every carrier, to tcp and unix upstreams. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type AgentNode, Network } from "../support/network.ts";
import { runCommand } from "../support/processes.ts";
import { needsTool, testNeeding } from "../support/require_tool.ts";
import { writeAll } from "../modes/agent/local_service.ts";

const CURL = needsTool("curl");
const MIB = 1024 * 1024;
const TRANSFER = 64 * MIB;

for (const carrier of ["quic", "tls", "auto"] as const) {
  Deno.test(`carrier ${carrier}: forward, SOCKS5 and HTTP proxy reach tcp and unix upstreams`, async () => {
    await using fixture = await startWeb(carrier);
    const { agent } = fixture;
    const ways: [string, Deno.Proxy | undefined][] = [
      ["forward", undefined],
      ["SOCKS5", { url: `socks5h://127.0.0.1:${agent.socks5}` }],
      ["HTTP proxy", { url: `http://127.0.0.1:${agent.httpProxy}` }],
    ];
    for (const service of ["web", "sock"]) {
      for (const [way, proxy] of ways) {
        const base = proxy === undefined
          ? `http://127.0.0.1:${agent.forward(service)}`
          : `http://${service}.ginnel.internal`;
        using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0, ...(proxy && { proxy }) });
        const response = await fetch(`${base}/echo?by=${way}`, { client, method: "POST", body: "question" });
        assert.equal(await response.text(), `${service} got question for /echo`, `${way} to ${service}`);
      }
    }
  });
}

// "auto" takes one of the two.
for (const carrier of ["quic", "tls"]) {
  Deno.test(`carrier ${carrier}: 64 MiB each way at the same time arrive unchanged`, async () => {
    await using network = await Network.create();
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const agent = await startPair(network, { carrier, upstream: `tcp://127.0.0.1:${listener.addr.port}` });
    using client = await Deno.connect({ hostname: "127.0.0.1", port: agent.forward("web") });
    using server = await listener.accept();
    const [up, down, atServer, atClient] = await Promise.all([
      send(client, 1),
      send(server, 2),
      receive(server),
      receive(client),
    ]);
    assert.deepEqual(atServer, { bytes: TRANSFER, hash: up });
    assert.deepEqual(atClient, { bytes: TRANSFER, hash: down });
  });
}

Deno.test("a WebSocket through a forward carries text and binary both ways and closes with its code", async () => {
  await using network = await Network.create();
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onmessage = ({ data }) => data === "bye" ? socket.close(4001, "as asked") : socket.send(data);
    return response;
  });
  const agent = await startPair(network, { upstream: `tcp://127.0.0.1:${server.addr.port}` });
  const socket = new WebSocket(`ws://127.0.0.1:${agent.forward("web")}/`);
  socket.binaryType = "arraybuffer";
  await nextEvent(socket, "open");
  socket.send("text");
  assert.equal((await nextEvent<MessageEvent>(socket, "message")).data, "text");
  const bytes = pattern(300_000, 3);
  socket.send(bytes);
  assert.deepEqual(new Uint8Array((await nextEvent<MessageEvent>(socket, "message")).data), bytes);
  socket.send("bye");
  const { code, reason } = await nextEvent<CloseEvent>(socket, "close");
  assert.deepEqual({ code, reason }, { code: 4001, reason: "as asked" });
});

testNeeding(
  [CURL],
  "curl: forward, --socks5-hostname, --proxy and --proxytunnel get the same page",
  async () => {
    await using fixture = await startWeb("auto");
    const { agent } = fixture;
    const byName = "http://web.ginnel.internal/page";
    const commands: string[][] = [
      [`http://127.0.0.1:${agent.forward("web")}/page`],
      ["--socks5-hostname", `127.0.0.1:${agent.socks5}`, byName],
      ["--proxy", `http://127.0.0.1:${agent.httpProxy}`, byName],
      ["--proxy", `http://127.0.0.1:${agent.httpProxy}`, "--proxytunnel", byName],
    ];
    for (const args of commands) {
      const page = await runCommand([
        CURL.path,
        "--silent",
        "--show-error",
        "--fail",
        "--noproxy",
        "",
        ...args,
      ]);
      assert.equal(page, "web got  for /page", args.join(" "));
    }
  },
);

/** A network with two HTTP services, `web` on a port and `sock` on a unix socket. */
async function startWeb(carrier: string): Promise<AsyncDisposable & { readonly agent: AgentNode }> {
  const stack = new AsyncDisposableStack();
  const network = stack.use(await Network.create({ services: [{ name: "web" }, { name: "sock" }] }));
  const answer = (service: string) => async (request: Request) =>
    new Response(`${service} got ${await request.text()} for ${new URL(request.url).pathname}`);
  const path = `${network.folder}/sock`;
  const web = stack.use(
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, answer("web")),
  );
  stack.use(Deno.serve({ path, onListen: () => {} }, answer("sock")));
  const relay = await network.relay();
  await network.connector({
    services: { web: `tcp://127.0.0.1:${web.addr.port}`, sock: `unix:${path}` },
    relays: [relay],
    config: { carrier },
  });
  const agent = await network.agent({ forwards: ["web", "sock"], relays: [relay], config: { carrier } });
  return { agent, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** One relay, one connector with the service `web`, and an agent with a forward to it. */
async function startPair(
  network: Network,
  { carrier = "auto", upstream }: { readonly carrier?: string; readonly upstream: string },
): Promise<AgentNode> {
  const relay = await network.relay();
  await network.connector({ services: { web: upstream }, relays: [relay], config: { carrier } });
  return await network.agent({ forwards: ["web"], relays: [relay], config: { carrier } });
}

/** Sends {@linkcode TRANSFER} bytes of which no two MiB are alike, ends the direction and returns their hash. */
async function send(conn: Deno.TcpConn, seed: number): Promise<string> {
  const hash = createHash("sha256");
  const chunk = pattern(MIB, seed);
  for (let sent = 0; sent < TRANSFER; sent += chunk.length) {
    new DataView(chunk.buffer).setUint32(0, sent);
    hash.update(chunk);
    await writeAll(conn, chunk);
  }
  await conn.closeWrite();
  return hash.digest("hex");
}

async function receive(conn: Deno.TcpConn): Promise<{ bytes: number; hash: string }> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(256 * 1024);
  let bytes = 0;
  for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
    hash.update(buffer.subarray(0, count));
    bytes += count;
  }
  return { bytes, hash: hash.digest("hex") };
}

function pattern(length: number, seed: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, index) => (index * 31 + (index >> 8) * 7 + seed) & 0xff);
}

function nextEvent<E extends Event>(target: EventTarget, type: string): Promise<E> {
  return new Promise((resolve) =>
    target.addEventListener(type, (event) => resolve(event as E), { once: true })
  );
}
