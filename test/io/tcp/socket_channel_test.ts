import assert from "node:assert/strict";
import net from "node:net";
import { ChannelResetError, HEADROOM } from "../../../src/base/channel.ts";
import { type SocketChannel, socketChannel } from "../../../src/io/tcp/socket_channel.ts";

interface Pair {
  readonly channel: SocketChannel;
  readonly peer: Deno.Conn;
}

async function tcpPair(hostname = "127.0.0.1", dialHost = hostname): Promise<Pair> {
  using listener = Deno.listen({ hostname, port: 0 });
  const dialled = Deno.connect({ hostname: dialHost, port: listener.addr.port });
  const [conn, peer] = await Promise.all([listener.accept(), dialled]);
  return { channel: socketChannel(conn), peer };
}

async function readAll(channel: SocketChannel): Promise<Uint8Array> {
  const parts: number[] = [];
  for (let bytes = await channel.read(); bytes !== null; bytes = await channel.read()) parts.push(...bytes);
  return Uint8Array.from(parts);
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length;) offset += await conn.write(bytes.subarray(offset));
}

for (const [hostname, dialHost] of [["127.0.0.1"], ["::1"], ["::", "127.0.0.1"]] as const) {
  Deno.test(`abort() reaches the peer of ${dialHost ?? hostname} on ${hostname} as a reset`, async () => {
    const { channel, peer } = await tcpPair(hostname, dialHost);
    const pending = assert.rejects(channel.read(), ChannelResetError);
    const seen = assert.rejects(peer.read(new Uint8Array(8)), Deno.errors.ConnectionReset);
    channel.abort(new Error("Because"));
    await Promise.all([pending, seen, channel.closed]);
    peer.close();
    channel.abort();
  });
}

Deno.test("abort() resets after either side's half-close", async () => {
  for (const who of ["channel", "peer"] as const) {
    const { channel, peer } = await tcpPair();
    if (who === "channel") {
      await channel.closeWrite();
      assert.equal(await peer.read(new Uint8Array(8)), null);
      channel.abort();
      // The peer has read the end of our direction; its own direction now fails.
      await assert.rejects(async () => {
        for (;;) await peer.write(new Uint8Array(1024));
      }, (error) => error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe);
    } else {
      await peer.closeWrite();
      assert.equal(await channel.read(), null);
      channel.abort();
      await assert.rejects(peer.read(new Uint8Array(8)), Deno.errors.ConnectionReset);
    }
    peer.close();
  }
});

Deno.test("abort() resets one of many connections and leaves the others alone", async () => {
  const pairs = await Promise.all(Array.from({ length: 8 }, () => tcpPair()));
  for (const { channel, peer } of pairs.filter((_, i) => i % 2 === 1)) {
    channel.abort();
    await assert.rejects(peer.read(new Uint8Array(8)), Deno.errors.ConnectionReset);
    peer.close();
  }
  for (const { channel, peer } of pairs.filter((_, i) => i % 2 === 0)) {
    await writeAll(peer, Uint8Array.of(7));
    assert.deepEqual([...await channel.read() ?? []], [7]);
    peer.close();
    assert.equal(await channel.read(), null);
    await channel.closeWrite();
    await channel.closed;
  }
});

Deno.test("a peer's reset rejects read() and later writes with ERR_CHANNEL_RESET", async () => {
  const { promise, resolve } = Promise.withResolvers<net.Socket>();
  const server = net.createServer(resolve);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as net.AddressInfo;
  const channel = socketChannel(await Deno.connect({ hostname: "127.0.0.1", port }));
  const peer = await promise;
  const read = assert.rejects(channel.read(), { code: "ERR_CHANNEL_RESET" });
  peer.resetAndDestroy();
  await read;
  await assert.rejects(channel.write(new Uint8Array(1)), { code: "ERR_CHANNEL_RESET" });
  await channel.closed;
  await new Promise((done) => server.close(done));
});

Deno.test("a reset that a blocked write() meets is no clean end for the reader", async () => {
  const { channel, peer } = await tcpPair();
  const other = socketChannel(peer as Deno.TcpConn);
  const writing = (async () => {
    for (;;) await channel.write(new Uint8Array(1 << 16));
  })();
  const both = Promise.all([assert.rejects(writing, ChannelResetError), assert.rejects(channel.read())]);
  other.abort();
  await both;
  channel.abort();
});

Deno.test("what a peer sent before its reset is read even after a failed write()", async () => {
  const { channel, peer } = await tcpPair();
  const other = socketChannel(peer as Deno.TcpConn);
  await other.write(Uint8Array.of(1, 2, 3));
  other.abort();
  await assert.rejects(async () => {
    for (;;) await channel.write(new Uint8Array(1));
  }, ChannelResetError);
  assert.deepEqual([...await channel.read() ?? []], [1, 2, 3]);
  await assert.rejects(channel.read(), ChannelResetError);
  await channel.closed;
});

Deno.test("closeWrite() reaches the peer as an end while the other direction goes on", async () => {
  const { channel, peer } = await tcpPair();
  await channel.write(Uint8Array.of(1, 2));
  await channel.closeWrite();
  await channel.closeWrite();
  const buffer = new Uint8Array(8);
  assert.equal(await peer.read(buffer), 2);
  assert.equal(await peer.read(buffer), null);
  await assert.rejects(channel.write(Uint8Array.of(3)), TypeError);
  await writeAll(peer, Uint8Array.of(9, 8, 7));
  await peer.closeWrite();
  assert.deepEqual([...await readAll(channel)], [9, 8, 7]);
  await channel.closed;
  peer.close();
});

Deno.test("close() is a clean end for the peer, and fails what was pending", async () => {
  const { channel, peer } = await tcpPair();
  const pending = assert.rejects(channel.read(), ChannelResetError);
  channel.close();
  channel.close();
  await Promise.all([pending, channel.closed]);
  assert.equal(await peer.read(new Uint8Array(1)), null);
  await assert.rejects(channel.write(Uint8Array.of(1)), ChannelResetError);
  peer.close();
});

Deno.test("a peer's half-close ends reads and leaves writes working", async () => {
  const { channel, peer } = await tcpPair();
  await peer.closeWrite();
  assert.equal(await channel.read(), null);
  assert.equal(await channel.read(), null);
  await channel.write(Uint8Array.of(5));
  const buffer = new Uint8Array(8);
  assert.equal(await peer.read(buffer), 1);
  await channel.closeWrite();
  await channel.closed;
  peer.close();
});

Deno.test("bulk data arrives intact through growing reads with headroom, and blocked writes finish", async () => {
  const { channel, peer } = await tcpPair();
  const sent = new Uint8Array(8 << 20).map((_, i) => i * 31 + (i >> 8));
  const writing = channel.write(sent).then(() => channel.closeWrite());
  const echoed = peer.readable.pipeTo(peer.writable);
  let offset = 0;
  let largest = 0;
  for (let bytes = await channel.read(); bytes !== null; bytes = await channel.read()) {
    assert.ok(bytes.byteOffset >= HEADROOM);
    assert.deepEqual(bytes, sent.subarray(offset, offset + bytes.length));
    // What its owner does in the headroom must harm nothing.
    new Uint8Array(bytes.buffer, bytes.byteOffset - HEADROOM, HEADROOM).fill(0xff);
    offset += bytes.length;
    largest = Math.max(largest, bytes.length);
  }
  await Promise.all([writing, echoed]);
  assert.equal(offset, sent.length);
  assert.ok(largest > 16 * 1024, `largest read was ${largest}`);
});

Deno.test("the read buffer is small for an idle flow and shrinks after bulk data", async () => {
  const { channel, peer } = await tcpPair();
  const sizes: number[] = [];
  const exchange = async (length: number) => {
    await writeAll(peer, new Uint8Array(length));
    for (let left = length; left > 0;) {
      const bytes = await channel.read();
      left -= bytes!.length;
      sizes.push(bytes!.buffer.byteLength);
    }
  };
  await exchange(10);
  assert.equal(sizes.at(-1), HEADROOM + 4096);
  while (Math.max(...sizes) < HEADROOM + 65_536) await exchange(256 * 1024);
  for (let i = 0; i < 70; i++) await exchange(10);
  assert.equal(sizes.at(-1), HEADROOM + 4096);
  channel.abort();
  peer.close();
});

Deno.test("a unix socket carries bytes, half-close and abort", async () => {
  const path = await Deno.makeTempDir() + "/s";
  using listener = Deno.listen({ transport: "unix", path });
  const [conn, peer] = await Promise.all([Deno.connect({ transport: "unix", path }), listener.accept()]);
  const channel = socketChannel(conn);
  await channel.write(Uint8Array.of(1));
  await channel.closeWrite();
  const buffer = new Uint8Array(8);
  assert.equal(await peer.read(buffer), 1);
  assert.equal(await peer.read(buffer), null);
  await writeAll(peer, Uint8Array.of(2));
  assert.deepEqual([...await channel.read() ?? []], [2]);
  await writeAll(peer, Uint8Array.of(3));
  channel.abort();
  await assert.rejects(peer.write(new Uint8Array(1)));
  peer.close();
});

Deno.test("without --allow-ffi abort() still closes", async () => {
  const module = (path: string) => import.meta.resolve(`../../../src/io/tcp/${path}`);
  const script = `
    import { socketChannel } from ${JSON.stringify(module("socket_channel.ts"))};
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const [a, b] = await Promise.all([Deno.connect({ port: listener.addr.port }), listener.accept()]);
    socketChannel(a).abort();
    console.log(await b.read(new Uint8Array(8)));
    Deno.exit(0);`;
  const path = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(path, script);
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-net=127.0.0.1", path],
    cwd: import.meta.dirname!,
  }).output();
  const text = new TextDecoder();
  assert.equal(text.decode(stdout), "null\n", text.decode(stderr));
});
