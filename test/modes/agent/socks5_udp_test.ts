import assert from "node:assert/strict";
import { concat, utf8, utf8Decode } from "../../../src/base/bytes.ts";
import { handleSocks5 } from "../../../src/modes/agent/socks5.ts";
import { eventually } from "../../support/eventually.ts";
import { UdpSocket } from "../../support/udp_socket.ts";
import { type LocalService, readExactly, startLocalService, writeAll } from "./local_service.ts";

/** Asks for an association; returns the connection that keeps it and where to send datagrams. */
async function associate(
  local: LocalService,
  announced = 0,
): Promise<{ readonly control: Deno.TcpConn; readonly relay: { hostname: string; port: number } }> {
  const control = await local.dial();
  const request = [5, 3, 0, 1, 0, 0, 0, 0, announced >> 8, announced & 255];
  await writeAll(control, Uint8Array.of(5, 1, 0, ...request));
  const answer = await readExactly(control, 12);
  assert.deepEqual([...answer.subarray(0, 10)], [5, 0, 5, 0, 0, 1, 127, 0, 0, 1]);
  return { control, relay: { hostname: "127.0.0.1", port: answer[10]! * 256 + answer[11]! } };
}

function header(host: string, { port = 53, fragment = 0 } = {}): Uint8Array {
  const name = utf8(host);
  return concat([Uint8Array.of(0, 0, fragment, 3, name.length), name, Uint8Array.of(port >> 8, port & 255)]);
}

Deno.test("SOCKS: datagrams of an association reach the services they name, answers say whose they are", async () => {
  await using local = startLocalService({ handle: handleSocks5 });
  const { control, relay } = await associate(local);
  using client = new UdpSocket();
  for (const host of ["dns", "ntp.ginnel.internal", "dns"]) {
    await client.send(concat([header(host), utf8("ask")]), relay);
    const answer = await client.receive();
    const length = header(host).length;
    assert.deepEqual(answer.subarray(0, length), header(host));
    assert.equal(utf8Decode(answer.subarray(length)), `${host.split(".")[0]}:ask`);
  }
  const targets = local.datagrams.flows.map(({ target }) => target);
  assert.deepEqual(targets, [
    { service: "dns", port: 53, protocol: "udp" },
    { service: "ntp", port: 53, protocol: "udp" },
  ]);
  control.close();
});

Deno.test("SOCKS: fragments, foreign senders, foreign places and noise are dropped [RFC1928-7]", async () => {
  await using local = startLocalService({ handle: handleSocks5 });
  using client = new UdpSocket();
  using stranger = new UdpSocket();
  using elsewhere = new UdpSocket({ hostname: "127.0.0.9" });
  const { control, relay } = await associate(local, client.address.port);
  // The client has announced its port: nobody else gets in, not even first.
  await stranger.send(concat([header("dns"), utf8("stranger")]), relay);
  await elsewhere.send(concat([header("dns"), utf8("elsewhere")]), relay);
  await client.send(concat([header("dns", { fragment: 1 }), utf8("fragment")]), relay);
  await client.send(concat([header("dns", { fragment: 0x81 }), utf8("last fragment")]), relay);
  await client.send(concat([header("10.0.0.1"), utf8("address")]), relay);
  await client.send(utf8("noise"), relay);
  await client.send(concat([header("dns"), utf8("ask")]), relay);
  const answer = await client.receive();
  assert.match(utf8Decode(answer), /dns:ask$/);
  assert.equal(local.datagrams.asked, 1);
  assert.deepEqual(await stranger.received(), []);
  control.close();
});

Deno.test("SOCKS: whoever sends first has an association that announced no port", async () => {
  await using local = startLocalService({ handle: handleSocks5 });
  const { control, relay } = await associate(local);
  using client = new UdpSocket();
  using stranger = new UdpSocket();
  await client.send(concat([header("dns"), utf8("1")]), relay);
  await client.receive();
  await stranger.send(concat([header("ntp"), utf8("2")]), relay);
  await client.send(concat([header("dns"), utf8("3")]), relay);
  assert.match(utf8Decode(await client.receive()), /dns:3$/);
  assert.equal(local.datagrams.asked, 1);
  control.close();
});

Deno.test("SOCKS: an association and its flows end with its connection", async () => {
  await using local = startLocalService({ handle: handleSocks5 });
  const { control, relay } = await associate(local);
  using client = new UdpSocket();
  await client.send(concat([header("dns"), utf8("x")]), relay);
  await client.receive();
  control.close();
  await eventually(() => !local.datagrams.flows[0]!.isOpen);
  await eventually(() => Deno.listenDatagram({ transport: "udp", ...relay }).close() === undefined);
});

Deno.test("SOCKS: one client sends to at most 256 places at once", async () => {
  await using local = startLocalService({ handle: handleSocks5 });
  const { control, relay } = await associate(local);
  using client = new UdpSocket();
  for (let port = 1; port <= 300; port++) {
    await client.send(concat([header("dns", { port }), utf8("x")]), relay);
    if (port <= 256) await client.receive();
  }
  await client.send(concat([header("dns", { port: 1 }), utf8("x")]), relay);
  await client.receive();
  assert.equal(local.datagrams.asked, 256);
  control.close();
});
