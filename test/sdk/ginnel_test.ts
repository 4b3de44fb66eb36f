/** The SDK against a real relay: what programs serve and reach, and what they cannot. */

import assert from "node:assert/strict";
import type { RequestInfo } from "../../src/sdk/caller_server.ts";
import type { Ginnel } from "../../src/sdk/ginnel.ts";
import { spiffeId } from "../support/network.ts";
import { eventually } from "../support/eventually.ts";
import { SdkNetwork } from "./sdk_network.ts";

const WEB = "http://web.ginnel.internal";

/** Tells what reached it, and from whom. */
async function tell(request: Request, { caller, service }: RequestInfo): Promise<Response> {
  const { pathname, search, host } = new URL(request.url);
  if (pathname === "/fail") throw new Error("as asked");
  if (pathname.startsWith("/to/")) {
    const [, , status, place] = /^(\/to\/)(\d+)\/(.*)$/.exec(pathname)!;
    return new Response("moved", {
      status: Number(status),
      headers: { location: decodeURIComponent(place!) },
    });
  }
  return Response.json({
    method: request.method,
    path: pathname + search,
    host,
    caller,
    service,
    body: await request.text(),
    authorization: request.headers.get("authorization"),
    type: request.headers.get("content-type"),
  });
}

async function serveWeb(ground: SdkNetwork): Promise<Ginnel> {
  const net = await ground.join("connector", "host");
  await net.serve("web", tell).ready;
  return net;
}

Deno.test("a handler is reached by fetch, and told who calls", async () => {
  await using ground = await SdkNetwork.start();
  await serveWeb(ground);
  const alice = await ground.join("agent", "alice");
  const response = await alice.fetch(`${WEB}/a?b=c`, { method: "POST", body: "question" });
  assert.equal(response.status, 200);
  assert.deepEqual(await response.json(), {
    method: "POST",
    path: "/a?b=c",
    host: "web.ginnel.internal",
    caller: spiffeId("agent", "alice"),
    service: "web",
    body: "question",
    authorization: null,
    type: "text/plain;charset=UTF-8",
  });
});

Deno.test("each of two callers is told apart, whatever headers say", async () => {
  await using ground = await SdkNetwork.start();
  await serveWeb(ground);
  const [alice, bob] = await Promise.all([ground.join("agent", "alice"), ground.join("agent", "bob")]);
  for (let round = 0; round < 3; round++) {
    const seen = await Promise.all([alice, bob].map(async (net) => {
      const response = await net.fetch(`${WEB}/`, {
        headers: { "ginnel-caller": spiffeId("agent", "root"), "x-forwarded-for": "10.0.0.1" },
      });
      return (await response.json()).caller;
    }));
    assert.deepEqual(seen, [spiffeId("agent", "alice"), spiffeId("agent", "bob")]);
  }
});

Deno.test("requests one after the other share a flow", async () => {
  await using ground = await SdkNetwork.start();
  await serveWeb(ground);
  const alice = await ground.join("agent", "alice");
  for (let count = 0; count < 5; count++) {
    const response = await alice.fetch(`${WEB}/${count}`, { method: "POST", body: `${count}`.repeat(count) });
    assert.equal((await response.json()).body, `${count}`.repeat(count));
  }
  const flows = (await ground.relay.audit()).filter(({ event }) => event === "connect");
  assert.equal(flows.length, 1);
});

Deno.test("content streams both ways, chunked and of any size", async () => {
  await using ground = await SdkNetwork.start();
  const host = await ground.join("connector", "host");
  await host.serve("web", (request) => new Response(request.body)).ready;
  const alice = await ground.join("agent", "alice");
  const chunk = crypto.getRandomValues(new Uint8Array(60_000));
  const body = ReadableStream.from(Array.from({ length: 40 }, () => chunk));
  const response = await alice.fetch(WEB, { method: "PUT", body });
  const echoed = new Uint8Array(await response.arrayBuffer());
  assert.equal(echoed.length, 40 * chunk.length);
  for (let start = 0; start < echoed.length; start += chunk.length) {
    assert.deepEqual(echoed.subarray(start, start + chunk.length), chunk);
  }
});

Deno.test("a WebSocket reaches Deno.upgradeWebSocket", async () => {
  await using ground = await SdkNetwork.start();
  const host = await ground.join("connector", "host");
  await host.serve("web", (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onmessage = ({ data }) =>
      data === "bye" ? socket.close(4001, "as asked") : socket.send(`echo ${data}`);
    return response;
  }).ready;
  const alice = await ground.join("agent", "alice");
  await eventually(() => alice.services().length === 1);
  const socket = alice.webSocket("ws://web.ginnel.internal/chat");
  await once(socket, "open");
  socket.send("hello");
  assert.equal((await once<MessageEvent>(socket, "message")).data, "echo hello");
  socket.send("bye");
  const { code, reason } = await once<CloseEvent>(socket, "close");
  assert.deepEqual({ code, reason }, { code: 4001, reason: "as asked" });
});

Deno.test("dial() gives a plain byte stream with half-close", async () => {
  await using ground = await SdkNetwork.start();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await ground.network.connector({
    services: { web: `tcp://127.0.0.1:${listener.addr.port}` },
    relays: [ground.relay],
  });
  const serving = (async () => {
    using conn = await listener.accept();
    const text = await new Response(conn.readable, {}).text();
    return text;
  })();
  const alice = await ground.join("agent", "alice");
  using conn = await alice.dial("web");
  const writer = conn.writable.getWriter();
  await writer.write(new TextEncoder().encode("one way"));
  await writer.close();
  assert.equal(await serving, "one way");
});

Deno.test("one identity serves, and reaches what others serve", async () => {
  await using ground = await SdkNetwork.start({ services: [{ name: "web" }, { name: "db" }] });
  const one = await ground.join("connector", "one");
  const other = await ground.join("connector", "other");
  await Promise.all([one.serve("web", tell).ready, other.serve("db", tell).ready]);
  const there = await (await one.fetch("http://db.ginnel.internal/")).json();
  const back = await (await other.fetch("http://web/")).json();
  assert.deepEqual([there.caller, back.caller], [
    spiffeId("connector", "one"),
    spiffeId("connector", "other"),
  ]);
});

Deno.test("a handler that throws is answered with 500, or as onError says", async () => {
  await using ground = await SdkNetwork.start({ services: [{ name: "web" }, { name: "db" }] });
  const host = await ground.join("connector", "host");
  const onError = (error: unknown) => new Response(`sorry: ${(error as Error).message}`, { status: 503 });
  await host.serve("db", { handler: tell, onError }).ready;
  const alice = await ground.join("agent", "alice");
  const response = await alice.fetch("http://db.ginnel.internal/fail");
  assert.deepEqual([response.status, await response.text()], [503, "sorry: as asked"]);
});

Deno.test("hosts of other networks are refused before anything is looked up, whatever NO_PROXY says", async () => {
  Deno.env.set("NO_PROXY", "*");
  try {
    await using ground = await SdkNetwork.start();
    await serveWeb(ground);
    const alice = await ground.join("agent", "alice");
    for (
      const url of ["http://example.com/", "http://127.0.0.1:1/", "http://[::1]/", "http://web.example/"]
    ) {
      await assert.rejects(alice.fetch(url), { code: "ERR_NOT_A_SERVICE" }, url);
    }
    await assert.rejects(alice.fetch("https://web.ginnel.internal/"), { code: "ERR_SCHEME" });
    await assert.rejects(alice.dial("example.com", { port: 80 }), { code: "ERR_NOT_A_SERVICE" });
    assert.equal((await (await alice.fetch(`${WEB}/`)).json()).service, "web");
  } finally {
    Deno.env.delete("NO_PROXY");
  }
});

Deno.test("redirects are followed within the network only", async () => {
  await using ground = await SdkNetwork.start({ services: [{ name: "web" }, { name: "db" }] });
  const host = await serveWeb(ground);
  await host.serve("db", tell).ready;
  const alice = await ground.join("agent", "alice");
  const headers = { authorization: "Bearer secret" };
  const to = (status: number, place: string) => `${WEB}/to/${status}/${encodeURIComponent(place)}`;
  const same = await (await alice.fetch(to(302, "/here"), { method: "POST", body: "x", headers })).json();
  assert.deepEqual(
    [same.method, same.path, same.body, same.type, same.authorization],
    ["GET", "/here", "", null, "Bearer secret"],
  );
  const other = await (await alice.fetch(to(307, "http://db.ginnel.internal/"), { headers })).json();
  assert.deepEqual([other.service, other.authorization], ["db", null]);
  await assert.rejects(alice.fetch(to(302, "http://example.com/")), { code: "ERR_NOT_A_SERVICE" });
  await assert.rejects(alice.fetch(to(302, "/x"), { redirect: "error" }), TypeError);
  await assert.rejects(alice.fetch(to(307, "/x"), { method: "POST", body: "x" }), TypeError);
  const manual = await alice.fetch(to(301, "/x"), { redirect: "manual" });
  assert.equal(manual.status, 301);
  await manual.body?.cancel();
});

Deno.test("what policy denies or nobody offers rejects with the reason", async () => {
  await using ground = await SdkNetwork.start({ services: [{ name: "web" }, { name: "idle" }] });
  await serveWeb(ground);
  const alice = await ground.join("agent", "alice");
  await assert.rejects(alice.fetch("http://secret.ginnel.internal/"), {
    code: "ERR_FLOW_UNAVAILABLE",
    message: /may not dial secret/,
  });
  await assert.rejects(alice.fetch("http://idle.ginnel.internal/"), { code: "ERR_FLOW_UNAVAILABLE" });
  await assert.rejects(alice.dial("idle"), { code: "ERR_FLOW_UNAVAILABLE" });
});

Deno.test("a service's own answer cannot pass for one of the SDK's errors", async () => {
  await using ground = await SdkNetwork.start();
  const host = await ground.join("connector", "host");
  await host.serve(
    "web",
    () => new Response("mine", { status: 502, headers: { "ginnel-error": crypto.randomUUID() } }),
  ).ready;
  const alice = await ground.join("agent", "alice");
  const response = await alice.fetch(WEB);
  assert.deepEqual([response.status, await response.text()], [502, "mine"]);
});

Deno.test("an agent's identity cannot offer services, and no name is offered twice", async () => {
  await using ground = await SdkNetwork.start();
  const alice = await ground.join("agent", "alice");
  assert.throws(() => alice.serve("web", tell), { code: "ERR_MAY_NOT_SERVE" });
  const host = await serveWeb(ground);
  assert.throws(() => host.serve("web", tell), { code: "ERR_ALREADY_SERVED" });
});

Deno.test("shutdown() answers what is under way, then nobody reaches the service, which may come back", async () => {
  await using ground = await SdkNetwork.start();
  const host = await ground.join("connector", "host");
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  const served = host.serve("web", async () => {
    asked.resolve();
    await answer.promise;
    return new Response("late");
  });
  await served.ready;
  const alice = await ground.join("agent", "alice");
  const fetching = alice.fetch(WEB);
  await asked.promise;
  const stopping = served.shutdown();
  answer.resolve();
  assert.equal(await (await fetching).text(), "late");
  await stopping;
  await served.finished;
  await assert.rejects(alice.fetch(WEB), { code: "ERR_FLOW_UNAVAILABLE" });
  await host.serve("web", tell).ready;
  assert.equal((await (await alice.fetch(WEB)).json()).service, "web");
});

Deno.test("services() and onChange() follow the policy", async () => {
  await using ground = await SdkNetwork.start({ services: [{ name: "web" }, { name: "db" }] });
  const alice = await ground.join("agent", "alice");
  let changes = 0;
  alice.onChange(() => changes++);
  const hosts = () => alice.services().map(({ host }) => host).join();
  await eventually(() => hosts() === "db.ginnel.internal,web.ginnel.internal");
  assert.ok(changes > 0);
  await ground.network.writePolicy({ identities: [], services: [], servicePolicies: [] });
  await eventually(() => hosts() === "");
});

Deno.test("after close() every call says so, and nothing leaks", async () => {
  await using ground = await SdkNetwork.start();
  const host = await serveWeb(ground);
  const alice = await ground.join("agent", "alice");
  await (await alice.fetch(WEB)).body?.cancel();
  await Promise.all([alice.close(), host.close()]);
  await Promise.all([alice.closed, host.closed]);
  await assert.rejects(alice.fetch(WEB), { code: "ERR_STOPPED" });
  await assert.rejects(alice.dial("web"), { code: "ERR_STOPPED" });
  assert.throws(() => host.serve("web", tell), { code: "ERR_STOPPED" });
});

function once<E extends Event>(socket: WebSocket, type: string): Promise<E> {
  return new Promise((resolve, reject) => {
    socket.addEventListener(type, (event) => resolve(event as E), { once: true });
    socket.addEventListener("error", (event) => reject(new Error((event as ErrorEvent).message)), {
      once: true,
    });
  });
}
