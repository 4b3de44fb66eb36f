/**
 * The datagrams of requests, over real QUIC.
 */

import assert from "node:assert/strict";
import type { DatagramPort, Exchange, ServerRequest } from "../../../src/dataplane/carrier.ts";
import { encodeControlPreface } from "../../../src/wire/h3/control.ts";
import { eventually } from "../../support/eventually.ts";
import { encodeHttpDatagram } from "../../wire/encode_http_datagram.ts";
import { GET_FIELDS, headersFrame } from "../../wire/h3/support.ts";
import { echo, readAll, TestServer } from "../support.ts";
import { connectRaw, writeBidi, writeUni } from "./raw_peer.ts";

const HEAD = { method: "GET", authority: "a", path: "/" };

Deno.test("datagrams of a request cross both ways, from one buffer that is reused at once", async () => {
  await using pair = await connectPair();
  for (const [from, to] of [[pair.client, pair.server.datagrams], [pair.server.datagrams, pair.client]]) {
    const got = collect(to!);
    const buffer = new Uint8Array(1000);
    await eventually(() => from!.maxSize >= 900);
    for (let i = 0; i < 100; i++) {
      buffer.fill(i, 100, 1000);
      assert.equal(from!.send(buffer, 100, 1000), true, `${i}`);
    }
    await eventually(() => got.length === 100);
    // The path keeps their order, so that one look tells of loss and of a buffer that was read too late.
    got.forEach((bytes, i) => assert.ok(bytes.length === 900 && bytes.every((byte) => byte === i), `${i}`));
  }
});

Deno.test("a datagram of the largest size passes, one more byte does not", async () => {
  await using pair = await connectPair();
  const got = collect(pair.server.datagrams);
  const size = pair.client.maxSize;
  const buffer = new Uint8Array(8 + size + 1);
  assert.equal(pair.client.send(buffer, 8, 8 + size), true);
  await eventually(() => got.length === 1);
  assert.equal(got[0]!.length, size);
  // The path may have grown meanwhile.
  const larger = new Uint8Array(8 + pair.client.maxSize + 1);
  assert.equal(pair.client.send(larger, 8, larger.length), false);
});

Deno.test("datagrams of two requests do not mix, and end with their request", async () => {
  await using server = await TestServer.quic(echoDatagrams);
  const connection = await server.dial();
  const [one, two] = [await connection.request(HEAD), await connection.request(HEAD)];
  const got = { one: collect(one.datagrams), two: collect(two.datagrams) };
  sendByte(one.datagrams, 1);
  sendByte(two.datagrams, 2);
  await eventually(() => got.one.length === 1 && got.two.length === 1);
  assert.deepEqual([got.one[0]![0], got.two[0]![0]], [1, 2]);
  await finish(one);
  assert.equal(one.datagrams.maxSize, 0);
  assert.equal(one.datagrams.send(new Uint8Array(9), 8, 9), false);
  await one.datagrams.writable();
  sendByte(two.datagrams, 3);
  await eventually(() => got.two.length === 2);
  assert.equal(got.one.length, 1);
  await finish(two);
});

Deno.test("datagrams of requests that ended, or never came, are dropped in silence [RFC9297-2.1]", async () => {
  const seen: number[] = [];
  await using server = await TestServer.quic(async (request) => {
    request.datagrams.receive((bytes) => void seen.push(bytes[0]!));
    await request.respond({ status: 200 }, { end: true });
  });
  const conn = await connectRaw(server.listener.port);
  await writeUni(conn, encodeControlPreface({ maxFieldSectionSize: 16_384, datagrams: true }));
  await (await writeBidi(conn, headersFrame(GET_FIELDS), { end: true })).answer;
  for (const id of [0, 4, 4000]) await conn.sendDatagram(encodeHttpDatagram(id, Uint8Array.of(id & 0xff)));
  // A stream behind them shows that the connection lives.
  const { answer } = await writeBidi(conn, headersFrame(GET_FIELDS), { end: true });
  assert.ok((await answer).length > 0);
  assert.deepEqual(seen, []);
  conn.close();
  await conn.closed;
});

Deno.test("a handler that throws costs its request nothing, nor others of the connection", async () => {
  let calls = 0;
  await using server = await TestServer.quic(async (request) => {
    request.datagrams.receive(() => {
      calls++;
      throw new Error("mine");
    });
    await echo(await request.respond({ status: 200 }));
  });
  const connection = await server.dial();
  const request = await connection.request(HEAD);
  for (let i = 1; i <= 3; i++) {
    sendByte(request.datagrams, i);
    await eventually(() => calls === i);
  }
  await finish(request);
});

Deno.test("a peer whose settings allow no datagrams is sent none [RFC9297-2.1.1]", async () => {
  const port = Promise.withResolvers<DatagramPort>();
  await using server = await TestServer.quic(async (request) => {
    port.resolve(request.datagrams);
    await echoWhileItLives(request);
  });
  const conn = await connectRaw(server.listener.port);
  await writeUni(conn, encodeControlPreface({ maxFieldSectionSize: 16_384 }));
  const datagram = assert.rejects(conn.readDatagram());
  await writeBidi(conn, headersFrame(GET_FIELDS));
  const datagrams = await port.promise;
  assert.equal(datagrams.maxSize, 0);
  assert.equal(datagrams.send(new Uint8Array(9), 8, 9), false);
  const writable = datagrams.writable();
  conn.close();
  await datagram;
  await writable;
});

Deno.test("who waits to send is woken when the connection ends", async () => {
  await using pair = await connectPair();
  const buffer = new Uint8Array(1100);
  const { client } = pair;
  // In one turn nothing leaves, so that a burst fills the port.
  while (client.send(buffer, 8, 1000));
  const writable = client.writable();
  pair.server.connection.close(7, "stop");
  await writable;
  await eventually(() => client.maxSize === 0);
  assert.equal(client.send(buffer, 8, 1000), false);
  await client.writable();
});

interface DatagramPair extends AsyncDisposable {
  readonly client: DatagramPort;
  readonly server: ServerRequest;
}

async function connectPair(): Promise<DatagramPair> {
  const accepted = Promise.withResolvers<ServerRequest>();
  const server = await TestServer.quic(async (request) => {
    request.connection.setAuthenticated();
    accepted.resolve(request);
    await echoWhileItLives(request);
  });
  const connection = await server.dial();
  const { datagrams } = await connection.request(HEAD);
  return {
    client: datagrams,
    server: await accepted.promise,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function echoWhileItLives(request: ServerRequest): Promise<void> {
  const body = await request.respond({ status: 200 });
  await echo(body).catch((error) => assert.equal(Object(error).code, "ERR_CHANNEL_RESET"));
}

async function echoDatagrams(request: ServerRequest): Promise<void> {
  request.datagrams.receive((bytes) => {
    const buffer = new Uint8Array(8 + bytes.length);
    buffer.set(bytes, 8);
    request.datagrams.send(buffer, 8, buffer.length);
  });
  await echo(await request.respond({ status: 200 }));
}

function collect(port: DatagramPort): Uint8Array[] {
  const got: Uint8Array[] = [];
  port.receive((bytes) => void got.push(bytes));
  return got;
}

function sendByte(port: DatagramPort, byte: number): void {
  assert.equal(port.send(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, byte), 8, 9), true);
}

async function finish(request: Exchange): Promise<void> {
  await request.body.closeWrite();
  await readAll(request.body);
}
