/** Tests of the delaying, losing UDP proxy. */

import assert from "node:assert/strict";
import { needsTool, testNeeding } from "./require_tool.ts";
import { UdpProxy, type UdpProxyCounters } from "./udp_proxy.ts";

const LOOPBACK = "127.0.0.1";
/** Few and small enough for the socket buffers of an unprivileged user. */
const DATAGRAMS = 250;

testNeeding([needsTool("gcc")], "UdpProxy delays both directions and keeps clients apart", async () => {
  using target = listen();
  await using proxy = await UdpProxy.start({
    listen: { hostname: LOOPBACK, port: 0 },
    target: target.addr as Deno.NetAddr,
    delayMs: 20,
  });
  using one = listen();
  using two = listen();
  const echo = echoDatagrams(target, 2);
  const started = performance.now();
  await send(one, { to: proxy.port, text: "one" });
  await send(two, { to: proxy.port, text: "two" });
  assert.equal(await receiveText(one), "one");
  assert.equal(await receiveText(two), "two");
  const elapsed = performance.now() - started;
  assert.ok(elapsed >= 40, `a round trip took ${elapsed} ms`);
  const peers = await echo;
  assert.notEqual(peers[0], peers[1]);
});

testNeeding([needsTool("gcc")], "UdpProxy loses the same datagrams for the same seed", async () => {
  const first = await pushThrough({ loss: 0.3, seed: 7 });
  const again = await pushThrough({ loss: 0.3, seed: 7 });
  const other = await pushThrough({ loss: 0.3, seed: 8 });
  assert.equal(first.forwarded + first.lost, DATAGRAMS);
  assert.ok(first.lost > 0.15 * DATAGRAMS && first.lost < 0.45 * DATAGRAMS, `${first.lost} lost`);
  assert.equal(first.lost, again.lost);
  assert.notEqual(first.lost, other.lost);
});

testNeeding([needsTool("gcc")], "UdpProxy drops what exceeds its queue and says so", async () => {
  const counters = await pushThrough({ queueBytes: 262_144, delayMs: 60_000 });
  assert.ok(counters.queueDropped > 0, `${counters.queueDropped} dropped`);
  assert.equal(counters.forwarded, 0);
});

/** Sends the datagrams through a proxy and returns its counters once it has seen them all. */
async function pushThrough(
  options: { loss?: number; seed?: number; queueBytes?: number; delayMs?: number },
): Promise<UdpProxyCounters> {
  using target = listen();
  await using proxy = await UdpProxy.start({
    delayMs: 0,
    ...options,
    listen: { hostname: LOOPBACK, port: 0 },
    target: target.addr as Deno.NetAddr,
  });
  using client = listen();
  for (let sent = 0; sent < DATAGRAMS; sent++) {
    await client.send(new Uint8Array(1_200), { transport: "udp", hostname: LOOPBACK, port: proxy.port });
  }
  return await proxy.stop();
}

async function echoDatagrams(socket: Deno.DatagramConn, count: number): Promise<number[]> {
  const ports = [];
  for (let echoed = 0; echoed < count; echoed++) {
    const [bytes, from] = await socket.receive();
    ports.push((from as Deno.NetAddr).port);
    await socket.send(bytes, from);
  }
  return ports;
}

function listen(): Deno.DatagramConn & Disposable {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: LOOPBACK, port: 0 });
  return Object.assign(socket, { [Symbol.dispose]: () => socket.close() });
}

async function send(socket: Deno.DatagramConn, options: { to: number; text: string }): Promise<void> {
  await socket.send(new TextEncoder().encode(options.text), {
    transport: "udp",
    hostname: LOOPBACK,
    port: options.to,
  });
}

async function receiveText(socket: Deno.DatagramConn): Promise<string> {
  const [bytes] = await socket.receive();
  return new TextDecoder().decode(bytes);
}
