/**
 * UDP sockets to one address, with real sockets on loopback.
 */

import assert from "node:assert/strict";
import { withDeadline } from "../../../src/base/async.ts";
import { type ConnectedUdp, connectUdp } from "../../../src/io/udp/connected_socket.ts";
import { eventually } from "../../support/eventually.ts";
import { freePort } from "../../support/free_port.ts";
import { UdpEcho } from "../../support/udp_echo.ts";

for (const hostname of ["127.0.0.1", "::1"]) {
  Deno.test(`datagrams of every size cross both ways, to ${hostname}`, async () => {
    await using echo = UdpEcho.start(hostname);
    using client = open([{ address: hostname, port: echo.port }]);
    for (const size of [0, 1, 1_200, 65_000]) {
      const sent = new Uint8Array(size + 7).map((_, i) => i + size);
      assert.equal(client.socket.send(sent, 3, 3 + size), true);
      await eventually(() => client.got.length === 1);
      assert.deepEqual(client.got.pop(), sent.slice(3, 3 + size));
    }
  });
}

Deno.test("only the address that was asked answers", async () => {
  await using echo = UdpEcho.start();
  await using stranger = UdpEcho.start();
  using client = open([{ address: "127.0.0.1", port: echo.port }]);
  client.socket.send(Uint8Array.of(1), 0, 1);
  await eventually(() => client.got.length === 1);
  const { port } = echo.from[0]!;
  for (let i = 0; i < 10; i++) await stranger.send(Uint8Array.of(66), { hostname: "127.0.0.1", port });
  // Sent behind them on the same path: when it is there, they would be.
  client.socket.send(Uint8Array.of(2), 0, 1);
  await eventually(() => client.got.length === 2);
  assert.deepEqual(client.got.map(([byte]) => byte), [1, 2]);
});

Deno.test("nobody there: the socket ends as refused, whoever learns it first", async () => {
  const port = freePort();
  using waiting = open([{ address: "127.0.0.1", port }]);
  waiting.socket.send(Uint8Array.of(1), 0, 1);
  assert.equal((await end(waiting.socket))?.code, "ERR_UPSTREAM_REFUSED");
  assert.equal(waiting.socket.send(Uint8Array.of(1), 0, 1), false);
  const sending = connectUdp([{ address: "127.0.0.1", port }]);
  while (sending.send(Uint8Array.of(1), 0, 1));
  assert.equal((await end(sending))?.code, "ERR_UPSTREAM_REFUSED");
});

Deno.test("the first address there is a way to is taken; without one it is unreachable", async () => {
  await using echo = UdpEcho.start();
  using client = open([{ address: "no address", port: 1 }, { address: "127.0.0.1", port: echo.port }]);
  client.socket.send(Uint8Array.of(1), 0, 1);
  await eventually(() => client.got.length === 1);
  for (const addresses of [[], [{ address: "no address", port: 1 }]]) {
    assert.throws(() => connectUdp(addresses), { code: "ERR_UPSTREAM_UNREACHABLE" });
  }
});

Deno.test("a burst reaches the handler whole, and in order", async () => {
  await using echo = UdpEcho.start();
  using client = open([{ address: "127.0.0.1", port: echo.port }]);
  for (let i = 0; i < 250; i++) client.socket.send(Uint8Array.of(i), 0, 1);
  await eventually(() => client.got.length === 250);
  assert.deepEqual(client.got.map(([byte]) => byte), Array.from({ length: 250 }, (_, i) => i));
});

Deno.test("a burst of all sizes keeps what each datagram is, and their order", async () => {
  await using echo = UdpEcho.start();
  using client = open([{ address: "127.0.0.1", port: echo.port }]);
  // Pieces end at a longer one, behind a shorter one, at an empty or very long one, and when they are full.
  const sizes = [
    5,
    5,
    5,
    9,
    9,
    3,
    3,
    3,
    0,
    1,
    0,
    1_400,
    1_400,
    1_472,
    1_473,
    9_000,
    2,
    ...new Array(70).fill(30),
  ];
  const sent = sizes.map((size, i) => new Uint8Array(size).fill(i));
  const buffer = new Uint8Array(9_000);
  for (const payload of sent) {
    buffer.set(payload);
    assert.equal(client.socket.send(buffer, 0, payload.length), true);
    buffer.fill(255);
  }
  await eventually(() => client.got.length === sizes.length);
  assert.deepEqual(client.got.map(({ length }) => length), sizes);
  assert.deepEqual(client.got, sent);
});

Deno.test("bursts of several sockets in one turn do not mix", async () => {
  await using echo = UdpEcho.start();
  using one = open([{ address: "127.0.0.1", port: echo.port }]);
  using two = open([{ address: "127.0.0.1", port: echo.port }]);
  for (let i = 0; i < 40; i++) {
    one.socket.send(Uint8Array.of(1, i), 0, 2);
    for (let n = 0; n < i % 3; n++) two.socket.send(Uint8Array.of(2, i), 0, 2);
  }
  await eventually(() => one.got.length === 40 && two.got.length === 39);
  assert.deepEqual(one.got.map((bytes) => bytes.join()), Array.from({ length: 40 }, (_, i) => `1,${i}`));
  assert.ok(two.got.every(([who]) => who === 2));
});

Deno.test("a burst to nobody ends the socket as refused, and one that is aborted goes nowhere", async () => {
  const port = freePort();
  using nobody = open([{ address: "127.0.0.1", port }]);
  for (let i = 0; i < 100; i++) nobody.socket.send(Uint8Array.of(i), 0, 1);
  assert.equal((await end(nobody.socket))?.code, "ERR_UPSTREAM_REFUSED");
  await using echo = UdpEcho.start();
  const aborted = open([{ address: "127.0.0.1", port: echo.port }]);
  for (let i = 0; i < 10; i++) aborted.socket.send(Uint8Array.of(i), 0, 1);
  aborted.socket.abort();
  using last = open([{ address: "127.0.0.1", port: echo.port }]);
  last.socket.send(Uint8Array.of(1), 0, 1);
  await eventually(() => last.got.length === 1);
  assert.equal(echo.from.length, 2, "the first of the burst, and the last one's");
});

Deno.test("many sockets at once keep their answers apart, and each is its own descriptor", async () => {
  await using echo = UdpEcho.start();
  const clients = Array.from({ length: 100 }, () => open([{ address: "127.0.0.1", port: echo.port }]));
  for (const [i, { socket }] of clients.entries()) socket.send(Uint8Array.of(i), 0, 1);
  await eventually(() => clients.every(({ got }) => got.length === 1));
  clients.forEach(({ got }, i) => assert.equal(got[0]![0], i));
  for (const client of clients) client[Symbol.dispose]();
  assert.equal(new Set(echo.from.map(({ port }) => port)).size, 100);
});

Deno.test("an aborted socket sends nothing, hands nothing on, and ends without an error", async () => {
  await using echo = UdpEcho.start();
  const { socket, got } = open([{ address: "127.0.0.1", port: echo.port }]);
  socket.send(Uint8Array.of(1), 0, 1);
  socket.abort();
  socket.abort();
  assert.equal(await end(socket), undefined);
  assert.equal(socket.send(Uint8Array.of(1), 0, 1), false);
  assert.equal(got.length, 0);
});

function open(addresses: Parameters<typeof connectUdp>[0]): Disposable & {
  readonly socket: ConnectedUdp;
  readonly got: Uint8Array[];
} {
  const socket = connectUdp(addresses);
  const got: Uint8Array[] = [];
  socket.receive((payload) => void got.push(payload.slice()));
  return { socket, got, [Symbol.dispose]: () => socket.abort() };
}

function end(socket: ConnectedUdp): Promise<Error & { readonly code: string } | undefined> {
  return withDeadline(5_000, () => socket.closed);
}
