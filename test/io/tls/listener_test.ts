import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import type { ClientConnection, DatagramPort, ServerRequest } from "../../../src/dataplane/carrier.ts";
import { openSockets, SOL_SOCKET } from "../../../src/io/libc_sockets.ts";
import { listenTls, TLS_CARRIER_ALPN } from "../../../src/io/tls/listener.ts";
import { dialTls } from "../../../src/io/tls/dialer.ts";
import { H3_FRAME_UNEXPECTED } from "../../../src/wire/h3/codes.ts";
import { encodeFrame } from "../../../src/wire/h3/frame.ts";
import type { Field } from "../../../src/wire/qpack/static_table.ts";
import { eventually } from "../../support/eventually.ts";
import { GET_FIELDS, headersFrame, pieces, wire } from "../../wire/h3/support.ts";
import {
  echoRequest,
  makeNetwork,
  NETWORK,
  pattern,
  readAll,
  readExactly,
  SERVER_NAME,
  TestServer,
  text,
} from "../support.ts";

const GET = { method: "GET", authority: "relay.example", path: "/" };
const TUNNEL = { method: "CONNECT", protocol: "connect-tcp", authority: "relay.example", path: "/tcp" };

Deno.test("a request reaches the server as it was made, and so does the answer", async () => {
  const requests: ServerRequest[] = [];
  await using server = await TestServer.tls(async (request) => {
    requests.push(request);
    await request.respond({ status: 404, headers: [["x-a", "1"]] }, {
      body: new TextEncoder().encode("nothing here"),
      end: true,
    });
  });
  const client = await server.dialTls();
  const { head, body } = await client.request({ ...GET, headers: [["x-b", "c"]] }, { end: true });
  assert.deepEqual(head, { status: 404, headers: new Map([["x-a", "1"]]) });
  assert.equal(text(await readAll(body)), "nothing here");
  assert.equal(requests[0]!.head.headers.get("x-b"), "c");
  assert.equal(requests[0]!.connection.carrier, "tls");
  assert.deepEqual(await client.closed, { code: 0, reason: "" });
  assert.deepEqual(await server.connections[0]!.closed, { code: 0, reason: "" });
});

Deno.test("content flows both ways at once and arrives whole", async () => {
  await using server = await TestServer.tls(echoRequest);
  const { body } = await (await server.dialTls()).request(TUNNEL);
  const sent = pattern(5_000_000);
  const received = readAll(body);
  for (const piece of pieces(sent, 99_999)) await body.write(piece);
  await body.closeWrite();
  assert.deepEqual(await received, sent);
});

Deno.test("small writes cross one by one, without waiting for each other", async () => {
  await using server = await TestServer.tls(echoRequest);
  const { body } = await (await server.dialTls()).request(TUNNEL);
  for (let i = 0; i < 100; i++) {
    await body.write(Uint8Array.of(i));
    assert.deepEqual([...await readExactly(body, 1)], [i]);
  }
  await body.closeWrite();
  assert.equal(await body.read(), null);
});

Deno.test("connections do not delay small writes and notice a peer that vanished", async () => {
  await using server = await TestServer.tls(echoRequest);
  using sockets = openSockets({ kind: "tcp-listener", port: server.listener.port });
  const [nodelay, idle, userTimeout] = [1, 4, 18].map((name) => sockets.get({ level: 6, name }));
  assert.deepEqual([nodelay, idle, userTimeout], [1, 30, 60_000]);
  assert.equal(sockets.get({ level: SOL_SOCKET, name: 9 }), 1);
  // What the listener has, its connections inherit: two small writes in a row cross without a delayed
  // acknowledgment (40 ms) between them. The fastest of several shows it on a busy machine, too.
  const { body } = await (await server.dialTls()).request(TUNNEL);
  let fastest = Infinity;
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    await body.write(Uint8Array.of(1));
    await body.write(Uint8Array.of(2));
    await readExactly(body, 2);
    fastest = Math.min(fastest, performance.now() - start);
  }
  assert.ok(fastest < 20, `${fastest} ms`);
  await body.closeWrite();
  await readAll(body);
});

Deno.test("half-close works in both directions", async () => {
  const got = Promise.withResolvers<string>();
  await using server = await TestServer.tls(async (request) => {
    const channel = await request.respond({ status: 200 });
    if (request.head.path === "/server-first") {
      await channel.closeWrite();
      return got.resolve(text(await readAll(channel)));
    }
    const length = (await readAll(channel)).length;
    await channel.write(new TextEncoder().encode(`${length} bytes`));
    await channel.closeWrite();
  });
  const { body } = await (await server.dialTls()).request(TUNNEL);
  await body.write(new Uint8Array(70_000));
  await body.closeWrite();
  assert.equal(text(await readAll(body)), "70000 bytes");

  const other = await (await server.dialTls()).request({ ...TUNNEL, path: "/server-first" });
  assert.equal(await other.body.read(), null);
  await other.body.write(new TextEncoder().encode("still here"));
  await other.body.closeWrite();
  assert.equal(await got.promise, "still here");
});

Deno.test("an abort is no clean end: the client's at the server, the server's at the client", async () => {
  const failure = Promise.withResolvers<unknown>();
  await using server = await TestServer.tls(async (request) => {
    const channel = await request.respond({ status: 200 });
    if (request.head.path === "/abort") return channel.abort();
    await readAll(channel).then(failure.resolve, failure.resolve);
  });
  const { body } = await (await server.dialTls()).request(TUNNEL);
  await body.write(Uint8Array.of(1));
  body.abort();
  assert.equal(Object(await failure.promise).code, "ERR_CHANNEL_RESET");

  const aborted = await (await server.dialTls()).request({ ...TUNNEL, path: "/abort" });
  await assert.rejects(readAll(aborted.body), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("an abort behind a write that is stuck cuts the connection", async () => {
  const failure = Promise.withResolvers<unknown>();
  const aborted = Promise.withResolvers<void>();
  await using server = await TestServer.tls(async (request) => {
    const channel = await request.respond({ status: 200 });
    await aborted.promise;
    await readAll(channel).then(failure.resolve, failure.resolve);
  });
  const client = await server.dialTls();
  const { body } = await client.request(TUNNEL);
  const chunk = new Uint8Array(1_000_000);
  const stuck = (async () => {
    for (;;) await body.write(chunk);
  })();
  // The server reads nothing, so writes block once the sockets are full; the abort does not wait for them.
  body.abort();
  aborted.resolve();
  await assert.rejects(stuck, { code: "ERR_CHANNEL_RESET" });
  assert.equal(Object(await failure.promise).code, "ERR_CHANNEL_RESET");
});

Deno.test("a TCP connection that is cut is no clean end", async () => {
  await using server = await TestServer.tls(async (request) => {
    const channel = await request.respond({ status: 200 });
    await channel.write(Uint8Array.of(1));
    await readAll(channel).catch(() => {});
  });
  await using wire = await CuttableWire.start(server.listener.port);
  const client = await dialTls({
    address: { hostname: "127.0.0.1", port: wire.port },
    serverName: SERVER_NAME,
    roots: [NETWORK.root],
    signal: AbortSignal.timeout(10_000),
  });
  const { body } = await client.request(TUNNEL);
  assert.deepEqual([...await readExactly(body, 1)], [1]);
  wire.cut();
  await assert.rejects(body.read(), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("close() of a connection breaks its flow for both sides", async () => {
  const failure = Promise.withResolvers<unknown>();
  await using server = await TestServer.tls(async (request) => {
    const channel = await request.respond({ status: 200 });
    await readAll(channel).then(failure.resolve, failure.resolve);
  });
  const { body } = await (await server.dialTls()).request(TUNNEL);
  server.connections[0]!.close(7, "policy");
  await assert.rejects(readAll(body), { code: "ERR_CHANNEL_RESET" });
  assert.equal(Object(await failure.promise).code, "ERR_CHANNEL_RESET");
  assert.deepEqual(await server.connections[0]!.closed, { code: 7, reason: "policy" });
});

Deno.test("a carrier takes one request and no sessions", async () => {
  await using server = await TestServer.tls(async (request) => {
    await assert.rejects(request.connection.acceptWebTransport(request), {
      code: "ERR_WEBTRANSPORT_UNSUPPORTED",
    });
    await request.respond({ status: 200 }, { end: true });
  });
  const client = await server.dialTls();
  await assert.rejects(client.connectWebTransport({ authority: "a", path: "/" }), {
    code: "ERR_WEBTRANSPORT_UNSUPPORTED",
  });
  await client.request(GET, { end: true });
  await assert.rejects(client.request(GET, { end: true }), { code: "ERR_CARRIER_USED" });
});

Deno.test("a carrier that was dialled and not used can be closed", async () => {
  await using server = await TestServer.tls(echoRequest);
  const client = await server.dialTls();
  await client.close(0, "not needed");
  assert.deepEqual(await client.closed, { code: 0, reason: "not needed" });
});

Deno.test("names and roots are checked", async () => {
  await using server = await TestServer.tls(echoRequest);
  const other = await makeNetwork();
  await assert.rejects(server.dialTls({ serverName: "relay-2.relay.ginnel.internal" }), /not valid for name/);
  await assert.rejects(server.dialTls({ roots: [other.root] }), /invalid peer certificate/);
});

Deno.test("a server that speaks another protocol is refused by the client, and a client by the server", async () => {
  using other = Deno.listenTls({ hostname: "127.0.0.1", port: 0, ...NETWORK.credentials });
  const accepted = other.accept();
  await assert.rejects(
    dialTls({
      address: { hostname: "127.0.0.1", port: (other.addr as Deno.NetAddr).port },
      serverName: SERVER_NAME,
      roots: [NETWORK.root],
      signal: AbortSignal.timeout(10_000),
    }),
    { code: "ERR_CARRIER_UNSUPPORTED" },
  );
  (await accepted).close();

  await using server = await TestServer.tls(echoRequest);
  using conn = await rawTls(server.listener.port, []);
  await conn.handshake();
  assert.equal(await conn.read(new Uint8Array(1)).catch(() => null), null);
  assert.equal(server.connections.length, 0);
});

Deno.test("reload() refuses nobody, gives new connections the new certificate and keeps the old ones", async () => {
  await using server = await TestServer.tls(echoRequest);
  const before = await (await server.dialTls()).request(TUNNEL);
  const other = await makeNetwork();
  server.listener.reload(other.credentials);
  const clients: ClientConnection[] = await Promise.all(
    Array.from({ length: 50 }, () => server.dialTls({ roots: [other.root] })),
  );
  await assert.rejects(server.dialTls(), /invalid peer certificate/);
  await Promise.all(clients.map((client) => client.close(0, "")));
  await before.body.write(new TextEncoder().encode("still"));
  await before.body.closeWrite();
  assert.equal(text(await readAll(before.body)), "still");
});

Deno.test("of several reloads at once the last one wins, for good", async () => {
  await using server = await TestServer.tls(echoRequest);
  const networks = await Promise.all([makeNetwork(), makeNetwork(), makeNetwork()]);
  for (const { credentials } of networks) server.listener.reload(credentials);
  const roots = [networks[2]!.root];
  const client = await eventually(() => server.dialTls({ roots }));
  await client.close(0, "");
  const clients = await Promise.all(Array.from({ length: 20 }, () => server.dialTls({ roots })));
  await Promise.all(clients.map((client) => client.close(0, "")));
});

Deno.test("reload() with a certificate that is none fails and changes nothing", async () => {
  await using server = await TestServer.tls(echoRequest);
  assert.throws(() => server.listener.reload({ cert: "none", key: "none" }));
  const { body } = await (await server.dialTls()).request(TUNNEL);
  await body.closeWrite();
  assert.equal(await body.read(), null);
});

Deno.test("a peer that does not prove who it is is closed in time, also when it never shakes hands", async () => {
  await using server = await TestServer.tls(echoRequest, { unauthenticatedMs: 100 });
  const client = await server.dialTls();
  using silent = await Deno.connect({ hostname: "127.0.0.1", port: server.listener.port });
  assert.equal(await silent.read(new Uint8Array(1)).catch(() => null), null);
  await assert.rejects(client.request({ ...TUNNEL }), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("connections above the limit are closed, and a closed one makes room", async () => {
  await using server = await TestServer.tls(echoRequest, { maxConnections: 1 });
  const { body } = await (await server.dialTls()).request(TUNNEL);
  await assert.rejects(server.dialTls());
  await body.closeWrite();
  assert.equal(await body.read(), null);
  await server.connections[0]!.closed;
  const again = await (await server.dialTls()).request(TUNNEL);
  await again.body.closeWrite();
  assert.equal(await again.body.read(), null);
});

Deno.test("a port that is taken is refused, though reloads share it", async () => {
  await using server = await TestServer.tls(echoRequest);
  await assert.rejects(
    listenTls({
      hostname: "127.0.0.1",
      port: server.listener.port,
      logger: SILENT_LOGGER,
      ...NETWORK.credentials,
    }),
    Deno.errors.AddrInUse,
  );
});

Deno.test("hostile bytes end their connection and nothing else", async () => {
  await using server = await TestServer.tls(echoRequest, { unauthenticatedMs: 500 });
  const attacks = [
    encodeFrame(0x00, wire("DATA before HEADERS")),
    encodeFrame(0x04, new Uint8Array(0)),
    wire(0x21, 2 ** 40),
    new TextEncoder().encode("GET / HTTP/1.1\r\nHost: relay\r\n\r\n"),
  ];
  for (const attack of attacks) {
    using conn = await rawTls(server.listener.port, [TLS_CARRIER_ALPN]);
    await conn.write(attack);
    await drain(conn);
  }
  assert.equal((await server.connections[0]!.closed).code, H3_FRAME_UNEXPECTED);
  const { body } = await (await server.dialTls()).request(TUNNEL);
  await body.closeWrite();
  assert.equal(await body.read(), null);
});

Deno.test("a malformed request is answered 400 and a large one 431", async () => {
  await using server = await TestServer.tls(echoRequest, { maxFieldSectionSize: 1000 });
  const bad: readonly Field[] = [...GET_FIELDS, ["Upper", "x"]];
  const large: readonly Field[] = [...GET_FIELDS, ["x-large", "~".repeat(2000)]];
  for (const [fields, status] of [[bad, "400"], [large, "431"]] as const) {
    using conn = await rawTls(server.listener.port, [TLS_CARRIER_ALPN]);
    await conn.write(headersFrame(fields));
    // Neither status is long enough for Huffman coding to hide it.
    assert.ok(indexOf(await drain(conn), headersFrame([[":status", status]])) >= 0, status);
  }
});

async function rawTls(port: number, alpnProtocols: string[]): Promise<Deno.TlsConn> {
  const tcp = await Deno.connect({ hostname: "127.0.0.1", port });
  return await Deno.startTls(tcp, { hostname: SERVER_NAME, caCerts: [NETWORK.root], alpnProtocols });
}

/** Reads until the peer ends or breaks the connection. */
async function drain(conn: Deno.Conn): Promise<Uint8Array> {
  const parts: number[] = [];
  const buffer = new Uint8Array(4096);
  for (;;) {
    const length = await conn.read(buffer).catch(() => null);
    if (length === null) return Uint8Array.from(parts);
    parts.push(...buffer.subarray(0, length));
  }
}

function indexOf(bytes: Uint8Array, part: Uint8Array): number {
  const find = (at: number): boolean => part.every((byte, index) => bytes[at + index] === byte);
  return bytes.findIndex((_, at) => find(at));
}

/** A TCP proxy whose connection can be cut in the middle. */
class CuttableWire implements AsyncDisposable {
  readonly port: number;
  readonly #listener: Deno.TcpListener;
  readonly #target: number;
  readonly #running: Promise<unknown>;
  #towardsClient: Deno.TcpConn | undefined;
  #towardsServer: Deno.TcpConn | undefined;

  private constructor(listener: Deno.TcpListener, target: number) {
    this.#listener = listener;
    this.#target = target;
    this.port = (listener.addr as Deno.NetAddr).port;
    this.#running = this.#carry();
  }

  static start(target: number): Promise<CuttableWire> {
    return Promise.resolve(new CuttableWire(Deno.listen({ hostname: "127.0.0.1", port: 0 }), target));
  }

  /** Ends the TCP connection towards the client, without TLS knowing. */
  cut(): void {
    this.#towardsClient?.close();
    this.#towardsServer?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#running;
  }

  async #carry(): Promise<void> {
    const client = this.#towardsClient = await this.#listener.accept();
    const server = this.#towardsServer = await Deno.connect({ hostname: "127.0.0.1", port: this.#target });
    const pump = async (from: Deno.TcpConn, to: Deno.TcpConn) => {
      const buffer = new Uint8Array(65_536);
      try {
        for (let n = await from.read(buffer); n !== null; n = await from.read(buffer)) {
          await to.write(buffer.subarray(0, n));
        }
      } catch (error) {
        assert.ok(
          error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted,
          `${error}`,
        );
      }
    };
    await Promise.all([pump(client, server), pump(server, client)]);
  }
}

Deno.test("a TLS carrier has no datagrams: the port takes none, and waits for the connection's end", async () => {
  const ports: DatagramPort[] = [];
  await using server = await TestServer.tls(async (request) => {
    ports.push(request.datagrams);
    await echoRequest(request);
  });
  const client = await server.dialTls();
  const { body, datagrams } = await client.request({ method: "GET", authority: "a", path: "/" });
  ports.push(datagrams);
  let ended = 0;
  const waiting = ports.map((port) => {
    assert.equal(port.maxSize, 0);
    assert.equal(port.send(new Uint8Array(9), 8, 9), false);
    port.receive(() => assert.fail("a datagram came"));
    return port.writable().then(() => ended++);
  });
  await body.write(Uint8Array.of(1));
  await body.read();
  assert.equal(ended, 0);
  await body.closeWrite();
  assert.equal(await body.read(), null);
  await Promise.all(waiting);
});
