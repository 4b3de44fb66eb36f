import assert from "node:assert/strict";
import { createLogger, SILENT_LOGGER } from "../../../src/base/log.ts";
import { DatagramTable } from "../../../src/io/quic/datagram_table.ts";
import { RequestDatagrams } from "../../../src/io/quic/request_datagrams.ts";
import { H3_DATAGRAM_ERROR } from "../../../src/wire/h3/codes.ts";
import { decodeHttpDatagram } from "../../../src/wire/http_datagram.ts";
import { encodeHttpDatagram } from "../../wire/encode_http_datagram.ts";

/** What one turn may send, and what may wait for a transport that is full. */
const BURST = 256;
const WAITING = 32;

Deno.test("DatagramTable sends nothing before the peer's setting allows it [RFC9297-2.1.1]", async () => {
  const { transport, table } = make({ allowed: false });
  const room = watch(table.room());
  assert.equal(table.maxFrameSize, 0);
  assert.equal(table.send(new Uint8Array(1)), false);
  assert.equal(transport.frames.length, 0);
  assert.equal(await room.isDone(), false);
  table.allow();
  assert.equal(await room.isDone(), true);
  assert.equal(table.maxFrameSize, 1200);
  assert.equal(table.send(new Uint8Array(1)), true);
});

Deno.test("DatagramTable drops what is larger than the path takes, byte by byte", async () => {
  const { transport, table } = make();
  assert.equal(table.send(new Uint8Array(1201)), false);
  assert.equal(table.send(new Uint8Array(1200)), true);
  transport.maxDatagramSize = 1199;
  // Asked once for a burst.
  await turn();
  assert.equal(table.maxFrameSize, 1199);
  assert.equal(table.send(new Uint8Array(1200)), false);
  assert.equal(transport.frames.length, 1);
});

Deno.test("DatagramTable takes one turn's burst, drops the rest, and takes more in the next turn", async () => {
  const { transport, table } = make();
  for (let turn = 1; turn <= 3; turn++) {
    for (let i = 0; i < BURST; i++) assert.equal(table.send(new Uint8Array(1)), true, `${turn}: ${i}`);
    assert.equal(table.send(new Uint8Array(1)), false);
    await table.room();
    assert.equal(transport.frames.length, turn * BURST);
  }
});

Deno.test("DatagramTable lets few wait for a full transport, and wakes who waits when half have gone", async () => {
  const { transport, table } = make();
  transport.isStuck = true;
  // A transport that takes nothing is known as full only after a first burst.
  for (let i = 0; i < WAITING; i++) table.send(new Uint8Array(1));
  await turn();
  assert.equal(table.send(new Uint8Array(1)), false);
  assert.equal(transport.frames.length, WAITING);
  const room = watch(table.room());
  for (let gone = 1; gone < WAITING / 2; gone++) {
    transport.takeOne();
    assert.equal(await room.isDone(), false, `${gone}`);
  }
  transport.takeOne();
  assert.equal(await room.isDone(), true);
  // Still full, though, until all are gone.
  for (let i = 0; i < WAITING / 2; i++) assert.equal(table.send(new Uint8Array(1)), true, `${i}`);
  assert.equal(table.send(new Uint8Array(1)), false);
  transport.isStuck = false;
  while (transport.takeOne());
  await turn();
  for (let i = 0; i < BURST; i++) assert.equal(table.send(new Uint8Array(1)), true, `${i}`);
});

Deno.test("DatagramTable has room again behind datagrams that failed", async () => {
  const { transport, table } = make();
  transport.failure = new Error("too large");
  for (let i = 0; i < 3 * BURST; i++) {
    if (!table.send(new Uint8Array(1))) await table.room();
  }
  await table.room();
  assert.equal(table.send(new Uint8Array(1)), true);
});

Deno.test("DatagramTable wakes who waits when the connection ends, and sends nothing more", async () => {
  const { transport, table } = make();
  transport.isStuck = true;
  while (table.send(new Uint8Array(1)));
  const room = watch(table.room());
  assert.equal(await room.isDone(), false);
  table.close();
  assert.equal(await room.isDone(), true);
  assert.equal(await watch(table.room()).isDone(), true);
  assert.equal(table.maxFrameSize, 0);
});

Deno.test("DatagramTable gives each request its own and drops what is nobody's [RFC9297-2.1]", () => {
  const { table } = make();
  const got: [string, number][] = [];
  const sink = (name: string) => ({ onDatagram: (bytes: Uint8Array) => void got.push([name, bytes[0]!]) });
  const [a, b, c] = [sink("a"), sink("b"), sink("c")];
  table.add(0, a);
  table.add(400, b);
  for (const id of [0, 4, 400, 404]) table.deliver(encodeHttpDatagram(id, Uint8Array.of(id & 0xff)));
  table.add(0, c);
  table.remove(0, a);
  table.deliver(encodeHttpDatagram(0, Uint8Array.of(1)));
  table.remove(0, c);
  table.deliver(encodeHttpDatagram(0, Uint8Array.of(2)));
  assert.deepEqual(got, [["a", 0], ["b", 400 & 0xff], ["c", 1]]);
  table.close();
  table.add(8, a);
  table.deliver(encodeHttpDatagram(8, Uint8Array.of(3)));
  table.deliver(encodeHttpDatagram(400, Uint8Array.of(4)));
  assert.equal(got.length, 3);
});

Deno.test("DatagramTable throws the connection's error at a malformed frame [RFC9297-2.1]", () => {
  const { table } = make();
  assert.throws(() => table.deliver(new Uint8Array(0)), {
    code: "ERR_PROTOCOL",
    scope: "connection",
    wireCode: H3_DATAGRAM_ERROR,
  });
});

Deno.test("RequestDatagrams writes its stream in front of the payload and nothing else, at every width", () => {
  for (const [streamId, prefix] of [[0, 1], [252, 1], [256, 2], [65_536, 4], [2 ** 33, 8]] as const) {
    const { transport, table } = make();
    const port = request(table, { streamId });
    const buffer = new Uint8Array(40).fill(0xaa);
    for (let i = 8; i < 20; i++) buffer[i] = i;
    assert.equal(port.maxSize, 1200 - prefix);
    assert.equal(port.send(buffer, 8, 20), true);
    const sent = decodeHttpDatagram(transport.frames[0]!);
    assert.equal(sent.streamId, streamId);
    assert.deepEqual([...sent.payload], [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    assert.deepEqual([...buffer.subarray(0, 8 - prefix)], Array(8 - prefix).fill(0xaa));
    assert.deepEqual([...buffer.subarray(20)], Array(20).fill(0xaa));
  }
});

Deno.test("RequestDatagrams refuses bounds that are not the caller's bytes", () => {
  const { transport, table } = make();
  const port = request(table, { streamId: 256 });
  for (const [start, end] of [[1, 4], [0, 0], [8, 41], [9, 8]] as const) {
    assert.throws(() => port.send(new Uint8Array(40), start, end), RangeError, `${start} to ${end}`);
  }
  assert.equal(transport.frames.length, 0);
  assert.equal(port.send(new Uint8Array(40), 2, 40), true);
});

Deno.test("RequestDatagrams sends only while the send side of its stream is open [RFC9297-2.1]", async () => {
  const { transport, table } = make();
  const stream = { canRead: true, canWrite: true };
  const port = request(table, { stream });
  assert.equal(port.send(new Uint8Array(9), 8, 9), true);
  stream.canWrite = false;
  assert.equal(port.send(new Uint8Array(9), 8, 9), false);
  assert.equal(port.maxSize, 0);
  assert.equal(await watch(port.writable()).isDone(), true);
  assert.equal(transport.frames.length, 1);
});

Deno.test("RequestDatagrams drops what comes before its handler and after its end [RFC9297-2.1]", () => {
  const { table } = make();
  const stream = { canRead: true, canWrite: true };
  const port = request(table, { stream });
  const got: number[] = [];
  const come = (value: number) => table.deliver(encodeHttpDatagram(0, Uint8Array.of(value)));
  come(1);
  port.receive((bytes) => void got.push(bytes[0]!));
  come(2);
  stream.canRead = false;
  come(3);
  stream.canRead = true;
  come(4);
  port.end();
  come(5);
  port.receive((bytes) => void got.push(bytes[0]!));
  come(6);
  assert.deepEqual(got, [2, 4]);
  assert.equal(port.send(new Uint8Array(9), 8, 9), false);
});

Deno.test("RequestDatagrams wakes who waits to send when its request ends", async () => {
  const { transport, table } = make();
  transport.isStuck = true;
  while (table.send(new Uint8Array(1)));
  const port = request(table, {});
  const writable = watch(port.writable());
  assert.equal(await writable.isDone(), false);
  port.end();
  assert.equal(await writable.isDone(), true);
});

Deno.test("RequestDatagrams logs a handler's fault once, and goes on", () => {
  const lines: string[] = [];
  const { table } = make();
  const port = request(table, { logger: createLogger({ write: (line) => lines.push(line) }) });
  let calls = 0;
  port.receive(() => {
    calls++;
    throw new Error("mine");
  });
  for (let i = 0; i < 5; i++) table.deliver(encodeHttpDatagram(0, new Uint8Array(1)));
  assert.equal(calls, 5);
  assert.equal(lines.length, 1);
  assert.equal(JSON.parse(lines[0]!).event, "datagram_handler_failed");
});

function make(options: { readonly allowed?: boolean } = {}) {
  const transport = new FakeTransport();
  const table = new DatagramTable(transport);
  if (options.allowed ?? true) table.allow();
  return { transport, table };
}

function request(
  table: DatagramTable,
  options: Partial<ConstructorParameters<typeof RequestDatagrams>[1]>,
): RequestDatagrams {
  const stream = { canRead: true, canWrite: true };
  return new RequestDatagrams(table, { streamId: 0, stream, logger: SILENT_LOGGER, ...options });
}

/** Copies a frame at the call, as the runtime does, and says that it took it some microtasks later. */
class FakeTransport {
  maxDatagramSize = 1200;
  isStuck = false;
  failure: Error | undefined;
  readonly frames: Uint8Array<ArrayBuffer>[] = [];
  readonly #waiting: (() => void)[] = [];

  async sendDatagram(frame: Uint8Array): Promise<void> {
    this.frames.push(frame.slice());
    if (this.isStuck) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else await undefined;
    if (this.failure !== undefined) throw this.failure;
  }

  takeOne(): boolean {
    const next = this.#waiting.shift();
    next?.();
    return next !== undefined;
  }
}

function watch(promise: Promise<void>) {
  let done = false;
  promise.then(() => done = true);
  return {
    isDone: async () => {
      await turn();
      return done;
    },
  };
}

/** Lets everything run that waits for nothing but its turn. */
async function turn(): Promise<void> {
  for (let i = 0; i < 20; i++) await undefined;
}
