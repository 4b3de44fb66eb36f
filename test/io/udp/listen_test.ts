import assert from "node:assert/strict";
import { GinnelError } from "../../../src/base/errors.ts";
import { listenUdp } from "../../../src/io/udp/listen.ts";
import { UdpSocket } from "../../support/udp_socket.ts";

Deno.test("datagrams of every size come whole, and answers go to who asked", async () => {
  await using socket = listenUdp(
    { hostname: "127.0.0.1", port: 0 },
    (bytes, from) => socket.send(bytes, from),
  );
  using one = new UdpSocket();
  using other = new UdpSocket();
  for (const size of [0, 1, 1_200, 65_507]) {
    for (const client of [one, other]) {
      const sent = crypto.getRandomValues(new Uint8Array(Math.min(size, 65_536)));
      await client.send(sent, socket.address);
      assert.deepEqual(await client.receive(), sent);
    }
  }
});

Deno.test("an answer to a client that is gone does not stop the others' datagrams", async () => {
  const seen: number[] = [];
  await using socket = listenUdp({ hostname: "127.0.0.1", port: 0 }, (bytes, from) => {
    seen.push(bytes[0]!);
    socket.send(bytes, from);
  });
  const gone = new UdpSocket();
  const { address } = gone;
  gone[Symbol.dispose]();
  for (let i = 0; i < 5; i++) socket.send(Uint8Array.of(9), address);
  using client = new UdpSocket();
  for (let i = 0; i < 5; i++) {
    await client.send(Uint8Array.of(i), socket.address);
    assert.deepEqual([...await client.receive()], [i]);
  }
  assert.deepEqual(seen, [0, 1, 2, 3, 4]);
});

Deno.test("an address that is taken is refused by name; a closed socket takes nothing and frees it", async () => {
  const socket = listenUdp({ hostname: "127.0.0.1", port: 0 }, () => {});
  const { address } = socket;
  assert.throws(
    () => listenUdp(address, () => {}),
    (error) => error instanceof GinnelError && error.code === "ERR_LISTEN_IN_USE",
  );
  await socket.close();
  await socket.close();
  assert.equal(socket.send(Uint8Array.of(1), address), false);
  await listenUdp(address, () => {}).close();
});
