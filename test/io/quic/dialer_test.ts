import assert from "node:assert/strict";
import { createLogger, type LogFields } from "../../../src/base/log.ts";
import { QuicDialer } from "../../../src/io/quic/dialer.ts";
import { raiseSocketBuffers, SOCKET_BUFFER_SIZE } from "../../../src/io/quic/socket_buffers.ts";
import { echoRequest, makeNetwork, NETWORK, readAll, SERVER_NAME, TestServer } from "../support.ts";

const GET = { method: "GET", authority: "relay.example", path: "/" };

Deno.test("a certificate with another name is refused", async () => {
  await using server = await TestServer.quic(echoRequest);
  await assert.rejects(server.dial({ serverName: "relay-2.relay.ginnel.internal" }), /not valid for name/);
});

Deno.test("a certificate of another network is refused", async () => {
  await using server = await TestServer.quic(echoRequest);
  const other = await makeNetwork();
  await assert.rejects(server.dial({ roots: [other.root] }), /invalid peer certificate/);
});

Deno.test("an aborted dial rejects with the signal's reason", async () => {
  // A socket that takes datagrams and never answers.
  const silent = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  await using dialer = new QuicDialer({ logger: createLogger({ write: () => {} }) });
  const abort = new AbortController();
  const dial = dialer.dial({
    address: { hostname: "127.0.0.1", port: (silent.addr as Deno.NetAddr).port },
    serverName: SERVER_NAME,
    roots: [NETWORK.root],
    signal: abort.signal,
  });
  await silent.receive();
  abort.abort(new Error("Too slow"));
  await assert.rejects(dial, /Too slow/);
  silent.close();
});

Deno.test("all dials leave from one socket, and a name is resolved", async () => {
  await using server = await TestServer.quic(echoRequest);
  const lines: LogFields[] = [];
  await using dialer = new QuicDialer({ logger: recorder(lines) });
  const target = { serverName: SERVER_NAME, roots: [NETWORK.root], signal: AbortSignal.timeout(10_000) };
  const port = server.listener.port;
  for (const hostname of ["127.0.0.1", "localhost"]) {
    const client = await dialer.dial({ ...target, address: { hostname, port } });
    await client.request(GET, { end: true });
  }
  const ports = server.connections.map(({ remote }) => remote.port);
  assert.equal(ports.length, 2);
  assert.equal(ports[0], ports[1]);
  assert.ok(lines.some(({ event }) => event === "socket_buffers_raised" || event === "socket_buffers_small"));
  assert.ok(!lines.some(({ event }) => event === "socket_not_dark"));
});

Deno.test("the dialing socket answers nobody but whom it dialled", async () => {
  await using server = await TestServer.quic(echoRequest);
  const client = await server.dial();
  await client.request(GET, { end: true });
  const port = server.connections[0]!.remote.port;
  const stranger = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const own = stranger.addr as Deno.NetAddr;
  for (const packet of strayPackets()) {
    await stranger.send(packet, { transport: "udp", hostname: "127.0.0.1", port });
    // A whole round trip on the same socket: an answer to the stray packet would have left by then.
    const { body } = await client.request(GET, { end: true });
    await readAll(body);
  }
  const marker = Uint8Array.of(1, 2, 3);
  await stranger.send(marker, own);
  const [first] = await stranger.receive();
  assert.deepEqual([...first], [...marker]);
  stranger.close();
});

Deno.test("a listening socket answers the same packets, so they are fit to show it", async () => {
  await using server = await TestServer.quic(echoRequest);
  const stranger = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const target = { transport: "udp" as const, hostname: "127.0.0.1", port: server.listener.port };
  await stranger.send(strayPackets()[2]!, target);
  const [answer] = await stranger.receive();
  // RFC 9000 §17.2.1: a version negotiation packet has version 0.
  assert.deepEqual([...answer.subarray(1, 5)], [0, 0, 0, 0]);
  stranger.close();
});

Deno.test("raiseSocketBuffers() raises a socket's buffers and tells what the kernel granted", () => {
  const endpoint = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
  const lines: LogFields[] = [];
  const granted = raiseSocketBuffers(endpoint.addr.port, recorder(lines));
  assert.ok(granted !== undefined && granted.receive > 0 && granted.send > 0);
  const small = Math.min(granted.receive, granted.send) < SOCKET_BUFFER_SIZE;
  assert.deepEqual(lines.map(({ event }) => event), [
    small ? "socket_buffers_small" : "socket_buffers_raised",
  ]);
  endpoint.close();
});

Deno.test("raiseSocketBuffers() warns when there is no such socket, and says what to do", () => {
  const lines: LogFields[] = [];
  assert.equal(raiseSocketBuffers(1, recorder(lines)), undefined);
  assert.equal(lines[0]!.event, "socket_buffers_unchanged");
  assert.match(String(lines[0]!.hint), /sysctl/);
});

/** An Initial of the right size, an Initial of an unknown connection, an unknown version, a short header. */
function strayPackets(): Uint8Array[] {
  const initial = crypto.getRandomValues(new Uint8Array(1200));
  initial.set([0xc0, 0, 0, 0, 1, 8]);
  initial.set([0, 0, 0x44, 0x90], 14);
  const handshake = initial.slice();
  handshake[0] = 0xe0;
  const version = initial.slice();
  version.set([0xc0, 0x1a, 0x2a, 0x3a, 0x4a]);
  const short = crypto.getRandomValues(new Uint8Array(1200));
  short[0] = 0x40;
  return [initial, handshake, version, short];
}

function recorder(lines: LogFields[]) {
  return createLogger({ level: "trace", write: (line) => lines.push(JSON.parse(line)) });
}
