import assert from "node:assert/strict";
import { concat } from "../../../src/base/bytes.ts";
import type { ServerRequest } from "../../../src/dataplane/carrier.ts";
import { H3_EXCESSIVE_LOAD, H3_NO_ERROR } from "../../../src/wire/h3/codes.ts";
import { encodeControlPreface } from "../../../src/wire/h3/control.ts";
import { MessageDecoder } from "../../../src/wire/h3/message_decoder.ts";
import type { Field } from "../../../src/wire/qpack/static_table.ts";
import { GET_FIELDS, headersFrame, pieces } from "../../wire/h3/support.ts";
import { echoRequest, makeNetwork, NETWORK, pattern, readAll, TestServer, text } from "../support.ts";
import { connectRaw, writeBidi, writeUni } from "./raw_peer.ts";

const GET = { method: "GET", authority: "relay.example", path: "/" };
const TUNNEL = { method: "CONNECT", protocol: "connect-tcp", authority: "relay.example", path: "/tcp" };

Deno.test("a request reaches the server as it was made, and so does the answer", async () => {
  const requests: ServerRequest[] = [];
  await using server = await TestServer.quic(async (request) => {
    requests.push(request);
    await request.respond({ status: 404, headers: [["x-a", "1"], ["x-a", "2"]] }, {
      body: new TextEncoder().encode("nothing here"),
      end: true,
    });
  });
  const client = await server.dial();
  const { head, body } = await client.request({ ...GET, path: "/a?b", headers: [["x-b", "c"]] }, {
    end: true,
  });
  assert.deepEqual(head, { status: 404, headers: new Map([["x-a", "1, 2"]]) });
  assert.equal(text(await readAll(body)), "nothing here");
  assert.deepEqual(requests[0]!.head, {
    method: "GET",
    scheme: "https",
    authority: "relay.example",
    path: "/a?b",
    headers: new Map([["x-b", "c"]]),
  });
  assert.equal(requests[0]!.connection.carrier, "quic");
  assert.equal(requests[0]!.connection.remote.hostname, "127.0.0.1");
  assert.equal(client.remote.port, server.listener.port);
});

Deno.test("content flows both ways at once and arrives whole", async () => {
  await using server = await TestServer.quic(echoRequest);
  const client = await server.dial();
  const { body } = await client.request(TUNNEL);
  const sent = pattern(3_000_000);
  const received = readAll(body);
  for (const piece of pieces(sent, 100_000)) await body.write(piece);
  await body.closeWrite();
  assert.deepEqual(await received, sent);
});

Deno.test("half-close: the server answers after the client's end", async () => {
  await using server = await TestServer.quic(async (request) => {
    const channel = await request.respond({ status: 200 });
    const got = await readAll(channel);
    await channel.write(new TextEncoder().encode(`${got.length} bytes`));
    await channel.closeWrite();
  });
  const client = await server.dial();
  const { body } = await client.request(TUNNEL);
  await body.write(new Uint8Array(70_000));
  await body.closeWrite();
  assert.equal(text(await readAll(body)), "70000 bytes");
});

Deno.test("half-close: the client goes on after the server's end", async () => {
  const got = Promise.withResolvers<string>();
  await using server = await TestServer.quic(async (request) => {
    const channel = await request.respond({ status: 200 });
    await channel.closeWrite();
    got.resolve(text(await readAll(channel)));
  });
  const client = await server.dial();
  const { body } = await client.request(TUNNEL);
  assert.equal(await body.read(), null);
  await body.write(new TextEncoder().encode("still here"));
  await body.closeWrite();
  assert.equal(await got.promise, "still here");
});

Deno.test("an aborted stream stops the peer's writes", async () => {
  const stopped = Promise.withResolvers<unknown>();
  await using server = await TestServer.quic(async (request) => {
    const channel = await request.respond({ status: 200 });
    const chunk = new Uint8Array(65_536);
    try {
      for (;;) await channel.write(chunk);
    } catch (error) {
      stopped.resolve(error);
    }
  });
  const client = await server.dial();
  const { body } = await client.request(TUNNEL);
  await body.read();
  body.abort();
  assert.equal(Object(await stopped.promise).code, "ERR_CHANNEL_RESET");
});

Deno.test("many requests share a connection", async () => {
  await using server = await TestServer.quic(echoRequest);
  const client = await server.dial();
  const answers = await Promise.all(Array.from({ length: 50 }, async (_, index) => {
    const { body } = await client.request(TUNNEL);
    await body.write(new TextEncoder().encode(String(index)));
    await body.closeWrite();
    return text(await readAll(body));
  }));
  assert.deepEqual(answers, Array.from({ length: 50 }, (_, index) => String(index)));
  assert.equal(server.connections.length, 1);
});

Deno.test("a request that comes byte by byte is served", async () => {
  await using server = await TestServer.quic(async (request) => {
    await request.respond({ status: 204 }, { end: true });
  });
  const conn = await connectRaw(server.listener.port);
  const stream = await conn.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  for (const byte of pieces(headersFrame(GET_FIELDS), 1)) await writer.write(byte);
  await writer.close();
  assert.equal(await statusOf(stream.readable), 204);
  await closeRaw(conn);
});

Deno.test("a malformed request is answered 400, and the connection lives [RFC9114-4.1.2]", async () => {
  await using server = await TestServer.quic(echoRequest);
  const conn = await connectRaw(server.listener.port);
  const bad = await writeBidi(conn, headersFrame([...GET_FIELDS, ["Upper", "x"]]));
  assert.equal(readStatus(await bad.answer), 400);
  const good = await writeBidi(conn, headersFrame(GET_FIELDS), { end: true });
  assert.equal(readStatus(await good.answer), 200);
  await closeRaw(conn);
});

Deno.test("a head above the limit is answered 431, and the connection lives [RFC9114-4.2.2]", async () => {
  await using server = await TestServer.quic(echoRequest, { maxFieldSectionSize: 1000 });
  const conn = await connectRaw(server.listener.port);
  const large = await writeBidi(conn, headersFrame([...GET_FIELDS, ["x-large", "~".repeat(2000)]]));
  assert.equal(readStatus(await large.answer), 431);
  const good = await writeBidi(conn, headersFrame(GET_FIELDS), { end: true });
  assert.equal(readStatus(await good.answer), 200);
  await closeRaw(conn);
});

Deno.test("a complete response ends a request that is still coming [RFC9114-4.1]", async () => {
  await using server = await TestServer.quic(async (request) => {
    await request.respond({ status: 403 }, { end: true });
  });
  const conn = await connectRaw(server.listener.port);
  const fields = GET_FIELDS.map(([name, value]): Field => [name, name === ":method" ? "POST" : value]);
  const { answer, stream } = await writeBidi(conn, headersFrame(fields));
  assert.equal(readStatus(await answer), 403);
  const writer = stream.writable.getWriter();
  await assert.rejects(async () => {
    for (;;) await writer.write(new Uint8Array(65_536));
  }, /sending stopped/);
  await closeRaw(conn);
});

Deno.test("GOAWAY: running requests go on, new ones are refused on both sides [RFC9114-5.2]", async () => {
  await using server = await TestServer.quic(echoRequest);
  const client = await server.dial();
  const running = await client.request(TUNNEL);
  const conn = await connectRaw(server.listener.port);
  const before = await writeBidi(conn, headersFrame(GET_FIELDS), { end: true });
  assert.equal(readStatus(await before.answer), 200);

  await Promise.all(server.connections.map((connection) => connection.goaway()));
  await client.draining;
  await assert.rejects(client.request(GET), { code: "ERR_CONNECTION_DRAINING" });
  await running.body.write(new TextEncoder().encode("on"));
  await running.body.closeWrite();
  assert.equal(text(await readAll(running.body)), "on");
  // A peer that ignores GOAWAY.
  const late = await writeBidi(conn, headersFrame(GET_FIELDS), { end: true });
  assert.equal(readStatus(await late.answer), 503);
  await closeRaw(conn);
});

Deno.test("reload() gives new connections the new certificate and keeps the old ones", async () => {
  await using server = await TestServer.quic(echoRequest);
  const before = await server.dial();
  const other = await makeNetwork();
  await assert.rejects(server.dial({ roots: [other.root] }), /invalid peer certificate/);
  for (let round = 0; round < 3; round++) server.listener.reload(other.credentials);
  await Promise.all(Array.from({ length: 10 }, () => server.dial({ roots: [other.root] })));
  await assert.rejects(server.dial({ roots: [NETWORK.root] }), /invalid peer certificate/);
  const { body } = await before.request(TUNNEL, { end: true });
  assert.equal(await body.read(), null);
});

Deno.test("reload() with a certificate that is none fails and changes nothing", async () => {
  await using server = await TestServer.quic(echoRequest);
  assert.throws(() => server.listener.reload({ cert: "none", key: "none" }));
  const client = await server.dial();
  await client.request(GET, { end: true });
});

Deno.test("a silent peer is gone after the idle timeout", async () => {
  await using server = await TestServer.quic(echoRequest, { idleTimeoutMs: 300 });
  const conn = await connectRaw(server.listener.port);
  conn.closed.catch(() => {});
  await writeBidi(conn, headersFrame(GET_FIELDS), { end: true }).then(({ answer }) => answer);
  assert.match((await server.connections[0]!.closed).reason, /timed out/);
});

Deno.test("a peer that does not prove who it is is closed in time", async () => {
  await using server = await TestServer.quic(echoRequest, { unauthenticatedMs: 50 });
  const client = await server.dial();
  assert.equal((await client.closed).code, H3_EXCESSIVE_LOAD);
});

Deno.test("setAuthenticated() lifts the limits of strangers", async () => {
  await using server = await TestServer.quic(echoRequest, {
    unauthenticatedStreams: 2,
    unauthenticatedMs: 60_000,
  });
  const client = await server.dial();
  // One at a time until the server has called it; then more than strangers may.
  await client.request(TUNNEL, { end: true });
  const tunnels = await Promise.all(Array.from({ length: 20 }, () => client.request(TUNNEL)));
  for (const { body } of tunnels) await body.closeWrite();
  for (const { body } of tunnels) assert.equal(await body.read(), null);
});

Deno.test("a stranger may open few streams, and a closed one makes room", async () => {
  await using server = await TestServer.quic(async (request) => {
    await request.respond({ status: 401 }, { end: true });
  }, { unauthenticatedStreams: 3 });
  const conn = await connectRaw(server.listener.port);
  for (let i = 0; i < 10; i++) {
    const { answer } = await writeBidi(conn, headersFrame(GET_FIELDS), { end: true });
    assert.equal(readStatus(await answer), 401);
  }
  // Streams that say nothing complete.
  for (let i = 0; i < 4; i++) await writeBidi(conn, Uint8Array.of(1));
  assert.deepEqual(await conn.closed.then(({ closeCode }) => closeCode), H3_EXCESSIVE_LOAD);
});

Deno.test("connections above the limit are refused, and a closed one makes room", async () => {
  await using server = await TestServer.quic(echoRequest, { maxConnections: 2 });
  const first = await server.dial();
  await server.dial();
  await assert.rejects(server.dial(), /refused/);
  await first.close(H3_NO_ERROR, "");
  await server.connections[0]!.closed;
  await server.dial();
});

Deno.test("strangers above their limit are refused, those known are not counted", async () => {
  await using server = await TestServer.quic(echoRequest, { maxUnauthenticated: 1 });
  const known = await server.dial();
  await assert.rejects(server.dial(), /refused/);
  await known.request(TUNNEL, { end: true });
  await server.dial();
});

Deno.test("close codes and reasons reach the other side, both ways", async () => {
  await using server = await TestServer.quic(echoRequest);
  const client = await server.dial();
  await client.request(GET, { end: true });
  server.connections[0]!.close(4242, "enough");
  assert.deepEqual(await client.closed, { code: 4242, reason: "enough" });
  assert.deepEqual(await server.connections[0]!.closed, { code: 4242, reason: "enough" });

  const second = await server.dial();
  await second.request(GET, { end: true });
  await second.close(99, "bye");
  assert.deepEqual(await server.connections[1]!.closed, { code: 99, reason: "bye" });
});

Deno.test("a closed connection breaks its streams and refuses requests", async () => {
  await using server = await TestServer.quic(async (request) => {
    const channel = await request.respond({ status: 200 });
    await assert.rejects(channel.read(), { code: "ERR_CHANNEL_RESET" });
  });
  const client = await server.dial();
  const { body } = await client.request(TUNNEL);
  server.connections[0]!.close(1, "");
  await assert.rejects(body.read(), { code: "ERR_CHANNEL_RESET" });
  await assert.rejects(client.request(GET));
});

Deno.test("an aborted request rejects with the signal's reason", async () => {
  const arrived = Promise.withResolvers<void>();
  await using server = await TestServer.quic(() => {
    arrived.resolve();
    return Promise.resolve();
  });
  const client = await server.dial();
  const abort = new AbortController();
  const answer = client.request(GET, { signal: abort.signal });
  await arrived.promise;
  abort.abort(new Error("Changed my mind"));
  await assert.rejects(answer, /Changed my mind/);
});

Deno.test("a request is answered once", async () => {
  const second = Promise.withResolvers<unknown>();
  await using server = await TestServer.quic(async (request) => {
    await request.respond({ status: 200 }, { end: true });
    second.resolve(await request.respond({ status: 500 }).catch((error) => error));
  });
  const client = await server.dial();
  await client.request(GET, { end: true });
  assert.ok(await second.promise instanceof TypeError);
});

Deno.test("the port is taken while a listener lives", async () => {
  await using server = await TestServer.quic(echoRequest);
  assert.throws(
    () => new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: server.listener.port }),
    Deno.errors.AddrInUse,
  );
});

Deno.test("a peer's SETTINGS and QPACK streams are taken beside its requests", async () => {
  await using server = await TestServer.quic(echoRequest);
  const conn = await connectRaw(server.listener.port);
  await writeUni(conn, encodeControlPreface({ maxFieldSectionSize: 65_536, datagrams: true }));
  await writeUni(conn, Uint8Array.of(2));
  await writeUni(conn, Uint8Array.of(3));
  await writeUni(conn, Uint8Array.of(0x21, 1, 2, 3), { end: true });
  const { answer } = await writeBidi(conn, headersFrame(GET_FIELDS), { end: true });
  assert.equal(readStatus(await answer), 200);
  await closeRaw(conn);
});

function readStatus(answer: Uint8Array): number {
  const decoder = new MessageDecoder({ reads: "response", maxFieldSectionSize: 16_384 });
  decoder.push(concat([answer]));
  const event = decoder.next();
  assert.ok(event?.kind === "response", "no response");
  return event.head.status;
}

async function statusOf(readable: ReadableStream<Uint8Array>): Promise<number> {
  const parts: Uint8Array[] = [];
  for await (const part of readable) parts.push(part);
  return readStatus(concat(parts));
}

async function closeRaw(conn: Deno.QuicConn): Promise<void> {
  conn.close({ closeCode: 0, reason: "" });
  await conn.closed;
}
