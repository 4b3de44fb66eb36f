import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import {
  DATAGRAM_HEADROOM,
  type ServerRequest,
  type WebTransportSession,
} from "../../../src/dataplane/carrier.ts";
import { QuicDialer } from "../../../src/io/quic/dialer.ts";
import { MessageDecoder } from "../../../src/wire/h3/message_decoder.ts";
import { encodeWebTransportSignal } from "../../../src/wire/h3/stream_signal.ts";
import { encodeControlPreface } from "../../../src/wire/h3/control.ts";
import type { Field } from "../../../src/wire/qpack/static_table.ts";
import { headersFrame, wire } from "../../wire/h3/support.ts";
import { echo, NETWORK, pattern, readAll, SERVER_NAME, TestServer, text } from "../support.ts";
import { connectRaw, writeBidi, writeUni } from "./raw_peer.ts";

const SESSION = { authority: "relay.example", path: "/.well-known/ginnel/connector" };

const CONNECT_FIELDS: readonly Field[] = [
  [":method", "CONNECT"],
  [":protocol", "webtransport"],
  [":scheme", "https"],
  [":authority", "relay.example"],
  [":path", "/"],
];

Deno.test("a session carries streams that either side opens", async () => {
  await using pair = await connectSession();
  const sent = pattern(500_000);
  for (const [opener, acceptor] of [[pair.client, pair.server], [pair.server, pair.client]] as const) {
    const accepted = first(acceptor.incomingStreams());
    const stream = await opener.openStream();
    const received = readAll(stream);
    await stream.write(sent);
    await stream.closeWrite();
    await echo(await accepted);
    assert.deepEqual(await received, sent);
  }
});

Deno.test("a stream is seen before its opener writes to it", async () => {
  await using pair = await connectSession();
  const accepted = first(pair.client.incomingStreams());
  const stream = await pair.server.openStream();
  const seen = await accepted;
  await seen.write(new TextEncoder().encode("you first"));
  await seen.closeWrite();
  assert.equal(text(await readAll(stream)), "you first");
});

Deno.test("many streams at once keep their bytes apart", async () => {
  await using pair = await connectSession();
  const echoing = (async () => {
    const echoes = [];
    for await (const stream of pair.client.incomingStreams()) echoes.push(echo(stream));
    await Promise.all(echoes);
  })();
  const answers = await Promise.all(Array.from({ length: 100 }, async (_, index) => {
    const stream = await pair.server.openStream();
    await stream.write(new TextEncoder().encode(String(index)));
    await stream.closeWrite();
    return text(await readAll(stream));
  }));
  assert.deepEqual(answers, Array.from({ length: 100 }, (_, index) => String(index)));
  await pair.server.close(0, "");
  await echoing;
});

Deno.test("datagrams cross a session both ways", async () => {
  await using pair = await connectSession();
  assert.ok(pair.client.datagrams.maxSize > 1000);
  for (const [from, to] of [[pair.client, pair.server], [pair.server, pair.client]] as const) {
    const received = nextDatagram(to);
    assert.equal(send(from, pattern(1000)), true);
    assert.deepEqual(await received, pattern(1000));
  }
});

Deno.test("datagrams nobody takes are dropped", async () => {
  await using pair = await connectSession();
  // A stream's echo, sent behind them, shows that they have arrived; loopback keeps their order.
  const stream = await pair.client.openStream();
  const echoing = first(pair.server.incomingStreams()).then(echo);
  for (let i = 0; i < 300; i++) {
    send(pair.client, Uint8Array.of(i >> 8, i & 0xff));
    await stream.write(Uint8Array.of(1));
    await stream.read();
  }
  await stream.closeWrite();
  await echoing;
  const received = nextDatagram(pair.server);
  send(pair.client, Uint8Array.of(7));
  assert.deepEqual([...await received], [7]);
});

Deno.test("a session that ended sends no datagrams and takes none", async () => {
  await using pair = await connectSession();
  pair.client.datagrams.receive(() => assert.fail("A closed session got a datagram"));
  await pair.client.close(0, "");
  assert.equal(pair.client.datagrams.maxSize, 0);
  assert.equal(send(pair.client, Uint8Array.of(1)), false);
  await pair.client.datagrams.writable();
  send(pair.server, Uint8Array.of(1));
  await pair.server.closed;
});

for (const closer of ["client", "server"] as const) {
  Deno.test(`code and reason cross when the ${closer} closes a session, and its streams end`, async () => {
    await using pair = await connectSession();
    const accepted = first(pair.client.incomingStreams());
    const stream = await pair.server.openStream();
    await accepted;
    const other = closer === "client" ? "server" : "client";
    await pair[closer].close(0xfeed_beef, "Grüße");
    assert.deepEqual(await pair[closer].closed, { code: 0xfeed_beef, reason: "Grüße" });
    assert.deepEqual(await pair[other].closed, { code: 0xfeed_beef, reason: "Grüße" });
    for await (const _ of pair[other].incomingUniStreams()) assert.fail("A closed session got a stream");
    await assert.rejects(pair[other].openStream(), { code: "ERR_SESSION_CLOSED" });
    await assert.rejects(stream.write(pattern(10)));
    await pair[other].close(1, "late");
    assert.equal((await pair[other].closed).code, 0xfeed_beef);
  });
}

Deno.test("a session ends with its connection, for the same reason", async () => {
  await using pair = await connectSession();
  pair.request.connection.close(77, "stop");
  assert.deepEqual(await pair.server.closed, { code: 77, reason: "stop" });
  assert.deepEqual(await pair.client.closed, { code: 77, reason: "stop" });
});

Deno.test("two sessions of one connection do not mix", async () => {
  const sessions: WebTransportSession[] = [];
  await using server = await TestServer.quic(async (request) => {
    sessions.push(await request.connection.acceptWebTransport(request));
  });
  const client = await server.dial();
  const one = await client.connectWebTransport(SESSION);
  const two = await client.connectWebTransport(SESSION);
  const accepted = sessions.map((session) => first(session.incomingStreams()));
  await (await two.openStream()).write(new TextEncoder().encode("two"));
  await (await one.openStream()).write(new TextEncoder().encode("one"));
  assert.deepEqual(await Promise.all(accepted.map(async (stream) => text(await (await stream).read()))), [
    "one",
    "two",
  ]);
  await one.close(0, "");
  const received = nextDatagram(sessions[1]!);
  send(two, Uint8Array.of(2));
  assert.deepEqual([...await received], [2]);
});

Deno.test("a refused session rejects with the status", async () => {
  await using server = await TestServer.quic(async (request) => {
    await request.respond({ status: 403 }, { end: true });
  });
  const client = await server.dial();
  await assert.rejects(client.connectWebTransport(SESSION), (error) => {
    assert.equal(Object(error).code, "ERR_SESSION_REFUSED");
    assert.match(Object(error).message, /403/);
    return true;
  });
});

Deno.test("streams that overtake their session are kept for it, one-way and two-way", async () => {
  const sessions = Promise.withResolvers<WebTransportSession>();
  await using server = await TestServer.quic(async (request) => {
    sessions.resolve(await request.connection.acceptWebTransport(request));
  });
  const conn = await connectRaw(server.listener.port);
  await writeUni(conn, encodeControlPreface({ maxFieldSectionSize: 16_384, datagrams: true }));
  // Stream 0 will be the session; these come before its request is complete.
  const request = headersFrame(CONNECT_FIELDS);
  const { stream } = await writeBidi(conn, request.subarray(0, 5));
  await writeUni(conn, wire(encodeWebTransportSignal("unidirectional", 0), "early"), { end: true });
  await writeBidi(conn, wire(encodeWebTransportSignal("bidirectional", 0), "early too"), { end: true });
  const writer = stream.writable.getWriter();
  await writer.write(request.subarray(5));
  const session = await sessions.promise;
  const uni = await first(session.incomingUniStreams());
  assert.equal(text(await readAll(uni)), "early");
  await assert.rejects(uni.write(Uint8Array.of(1)), TypeError);
  assert.equal(text(await readAll(await first(session.incomingStreams()))), "early too");
  conn.close();
  await conn.closed;
});

Deno.test("a browser that asks for the first deployed form is answered in it", async () => {
  await using server = await TestServer.quic(async (request) => {
    const session = await request.connection.acceptWebTransport(request);
    await session.close(0, "");
  });
  const conn = await connectRaw(server.listener.port);
  const fields: Field[] = [...CONNECT_FIELDS, ["sec-webtransport-http3-draft02", "1"]];
  const { answer } = await writeBidi(conn, headersFrame(fields));
  const { head } = decodeResponse(await answer);
  assert.equal(head.headers.get("sec-webtransport-http3-draft"), "draft02");
  conn.close();
  await conn.closed;
});

Deno.test("a peer that allowed no datagrams is sent none [RFC9297-2.1.1]", async () => {
  const sent = Promise.withResolvers<void>();
  await using server = await TestServer.quic(async (request) => {
    const session = await request.connection.acceptWebTransport(request);
    assert.equal(send(session, Uint8Array.of(1)), false);
    sent.resolve();
    await session.close(0, "");
  });
  const conn = await connectRaw(server.listener.port);
  await writeUni(conn, encodeControlPreface({ maxFieldSectionSize: 16_384 }));
  const datagram = conn.readDatagram();
  const { answer } = await writeBidi(conn, headersFrame(CONNECT_FIELDS));
  await sent.promise;
  await answer;
  conn.close();
  await assert.rejects(datagram);
  await conn.closed;
});

Deno.test("a client uses extended CONNECT only where SETTINGS allow it [RFC9220-3]", async () => {
  const endpoint = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
  const listener = endpoint.listen({ ...NETWORK.credentials, alpnProtocols: ["h3"] });
  const accepted = listener.accept();
  await using dialer = new QuicDialer({ logger: SILENT_LOGGER });
  const client = await dialer.dial({
    address: { hostname: "127.0.0.1", port: endpoint.addr.port },
    serverName: SERVER_NAME,
    roots: [NETWORK.root],
    signal: AbortSignal.timeout(5_000),
  });
  const conn = await accepted;
  const tunnel = client.request({ method: "CONNECT", protocol: "connect-tcp", authority: "a", path: "/" });
  await writeUni(conn, encodeControlPreface({ maxFieldSectionSize: 16_384 }));
  await assert.rejects(tunnel, { code: "ERR_EXTENDED_CONNECT_UNSUPPORTED" });
  await assert.rejects(client.connectWebTransport(SESSION), { code: "ERR_WEBTRANSPORT_UNSUPPORTED" });
  conn.close();
  await conn.closed;
  endpoint.close();
});

interface SessionPair extends AsyncDisposable {
  readonly client: WebTransportSession;
  readonly server: WebTransportSession;
  readonly request: ServerRequest;
}

async function connectSession(): Promise<SessionPair> {
  const accepted = Promise.withResolvers<{ session: WebTransportSession; request: ServerRequest }>();
  const server = await TestServer.quic(async (request) => {
    request.connection.setAuthenticated();
    accepted.resolve({ session: await request.connection.acceptWebTransport(request), request });
  });
  const connection = await server.dial();
  const client = await connection.connectWebTransport(SESSION);
  const { session, request } = await accepted.promise;
  return { client, server: session, request, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

function send(session: WebTransportSession, payload: Uint8Array): boolean {
  const buffer = new Uint8Array(DATAGRAM_HEADROOM + payload.length);
  buffer.set(payload, DATAGRAM_HEADROOM);
  return session.datagrams.send(buffer, DATAGRAM_HEADROOM, buffer.length);
}

function nextDatagram(session: WebTransportSession): Promise<Uint8Array> {
  return new Promise((resolve) => session.datagrams.receive(resolve));
}

async function first<T>(items: AsyncIterable<T>): Promise<T> {
  const { value, done } = await items[Symbol.asyncIterator]().next();
  assert.ok(!done, "nothing came");
  return value;
}

function decodeResponse(bytes: Uint8Array) {
  const decoder = new MessageDecoder({ reads: "response", method: "CONNECT", maxFieldSectionSize: 16_384 });
  decoder.push(bytes.slice());
  const event = decoder.next();
  assert.ok(event?.kind === "response");
  return event;
}
