/** Local clients that take their time, at every listener of an agent: they hold nobody up, and not for long. */

import assert from "node:assert/strict";
import { proxyStatus } from "../support/local_client.ts";
import { Network } from "../support/network.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";

Deno.test("clients that stop half-way through SOCKS5 or HTTP are cut off, and nobody waits for them", async () => {
  await using network = await Network.create();
  using upstream = new RecordingUpstream();
  const relay = await network.relay();
  await network.connector({ relays: [relay], services: { web: upstream.url } });
  const agent = await network.agent({ relays: [relay] });
  const beginnings: [port: number, begun: string][] = [
    [agent.socks5, ""],
    [agent.socks5, "\x05"],
    [agent.socks5, "\x05\x01\x00\x05\x01\x00\x03\xffweb"],
    [agent.httpProxy, ""],
    [agent.httpProxy, "CONNECT web.ginnel.internal:443 HTTP/1.1\r\nHost: "],
    [agent.httpProxy, "GET http://web.ginnel.internal/ HTTP/1.1\r\nX-Pad: "],
  ];
  const slow = await Promise.all(
    Array.from({ length: 20 }, () => beginnings).flat().map(async ([port, begun]) => {
      const conn = await Deno.connect({ hostname: "127.0.0.1", port });
      await conn.write(Uint8Array.from(begun, (character) => character.charCodeAt(0)));
      return conn;
    }),
  );
  const started = performance.now();
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 200);
  assert.ok(performance.now() - started < 2_000, "others are served at once");
  for (const conn of slow) {
    const buffer = new Uint8Array(512);
    while (await conn.read(buffer).catch(() => null) !== null);
    conn.close();
  }
  assert.ok(performance.now() - started < 15_000, "their ten seconds run beside each other");
  assert.equal(upstream.connections.length, 1);
});

Deno.test("a client that sends a request head without end is refused before it fills the memory", async () => {
  await using network = await Network.create();
  const relay = await network.relay();
  const agent = await network.agent({ relays: [relay] });
  for (const port of [agent.httpProxy, agent.socks5]) {
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    let sent = 0;
    const refused = (async () => {
      // Far more than any head; the kernel's buffers hold a few MiB of it.
      for (const chunk = new Uint8Array(65_536).fill(0x41); sent < 64 << 20; sent += chunk.length) {
        await conn.write(chunk);
      }
    })().then(() => false, () => true);
    const buffer = new Uint8Array(512);
    while (await conn.read(buffer).catch(() => null) !== null);
    conn.close();
    assert.ok(await refused, `all of ${sent} bytes were taken`);
  }
});
