import assert from "node:assert/strict";
import { dialUpstream } from "../../../src/io/tcp/dial.ts";

Deno.test("dialUpstream() connects over TCP and unix sockets", async () => {
  const path = await Deno.makeTempDir() + "/s";
  using tcp = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  using unix = Deno.listen({ transport: "unix", path });
  const upstreams = [
    [tcp, { kind: "tcp", hostname: "localhost", port: tcp.addr.port }],
    [unix, { kind: "unix", path }],
  ] as const;
  for (const [listener, upstream] of upstreams) {
    const [channel, peer] = await Promise.all([dialUpstream(upstream), listener.accept()]);
    await channel.write(Uint8Array.of(42));
    assert.equal(await peer.read(new Uint8Array(1)), 1);
    channel.abort();
    peer.close();
  }
});

Deno.test("dialUpstream() tells a refused, missing and unresolvable upstream apart", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  const dir = await Deno.makeTempDir();
  await assert.rejects(dialUpstream({ kind: "tcp", hostname: "127.0.0.1", port }), {
    code: "ERR_UPSTREAM_REFUSED",
    message: `Upstream refused the connection: tcp://127.0.0.1:${port}`,
  });
  await assert.rejects(dialUpstream({ kind: "unix", path: `${dir}/none` }), {
    code: "ERR_UPSTREAM_NOT_FOUND",
  });
  await assert.rejects(dialUpstream({ kind: "tcp", hostname: "nowhere.invalid", port: 1 }), {
    code: "ERR_UPSTREAM_UNREACHABLE",
  });
});

/** A listener whose backlog is full, so that a further dial never completes. */
async function silentPort(): Promise<Disposable & { port: number }> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0, tcpBacklog: 0 });
  const filler = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  return {
    port: listener.addr.port,
    [Symbol.dispose]: () => {
      filler.close();
      listener.close();
    },
  };
}

Deno.test("dialUpstream() gives up after its timeout and on its signal", async () => {
  using silent = await silentPort();
  const upstream = { kind: "tcp", hostname: "127.0.0.1", port: silent.port } as const;
  await assert.rejects(dialUpstream(upstream, { timeout: 30 }), { code: "ERR_UPSTREAM_TIMEOUT" });
  const controller = new AbortController();
  const reason = new Error("No longer wanted");
  const dialling = assert.rejects(dialUpstream(upstream, { signal: controller.signal }), reason);
  controller.abort(reason);
  await dialling;
  await assert.rejects(dialUpstream(upstream, { signal: controller.signal }), reason);
});

Deno.test("a signal that fires after the dial leaves the channel alone", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const controller = new AbortController();
  const upstream = { kind: "tcp", hostname: "127.0.0.1", port: listener.addr.port } as const;
  const [channel, peer] = await Promise.all([
    dialUpstream(upstream, { signal: controller.signal }),
    listener.accept(),
  ]);
  controller.abort();
  await channel.write(Uint8Array.of(1));
  assert.equal(await peer.read(new Uint8Array(1)), 1);
  channel.abort();
  peer.close();
});
