import assert from "node:assert/strict";
import { listenTcp } from "../../../src/io/tcp/listen.ts";

Deno.test("listenTcp() yields connections until close(), which accepted channels survive", async () => {
  const listener = listenTcp({ hostname: "127.0.0.1", port: 0 });
  const connections = listener.connections()[Symbol.asyncIterator]();
  const peer = await Deno.connect({ hostname: "127.0.0.1", port: listener.address.port });
  const { value } = await connections.next();
  assert.equal(value.remote.port, (peer.localAddr as Deno.NetAddr).port);
  const next = connections.next();
  listener.close();
  listener.close();
  assert.deepEqual(await next, { done: true, value: undefined });
  await value.channel.write(Uint8Array.of(1));
  assert.equal(await peer.read(new Uint8Array(1)), 1);
  value.channel.abort();
  peer.close();
});

Deno.test("listenTcp() names a taken address and says what to do", async () => {
  await using first = listenTcp({ hostname: "127.0.0.1", port: 0 });
  assert.throws(() => listenTcp(first.address), {
    code: "ERR_LISTEN_IN_USE",
    message: `Cannot listen on 127.0.0.1:${first.address.port}: the address is in use`,
  });
});
