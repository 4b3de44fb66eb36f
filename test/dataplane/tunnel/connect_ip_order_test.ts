/** In which order packets arrive that could leave by datagram or on the stream. */

import assert from "node:assert/strict";
import { concat, toHex } from "../../../src/base/bytes.ts";
import { parsePrefix, prefixRange } from "../../../src/base/ip.ts";
import { encodeCapsule } from "../../../src/wire/capsule/capsule.ts";
import { encodeRouteAdvertisement } from "../../../src/wire/capsule/connect_ip.ts";
import { DATAGRAM_CAPSULE } from "../../../src/wire/http_datagram.ts";
import { pattern } from "../../io/support.ts";
import { sendPacket, tunnel, turn } from "./connect_ip_ends.ts";

const ROUTES = [{ range: prefixRange(parsePrefix("192.0.2.0/24")!), protocol: 0 }];

Deno.test("ConnectIp keeps fragments in order where a first one may be too large for a datagram", async () => {
  const fragments = [[1_276, 0x20], [76, 0x00, 0x9f]].map(([size = 0, ...offset]) => {
    const packet = pattern(size);
    packet.set([0x45, 0, 0, 0, 0, 0, ...offset], 0);
    return packet;
  });
  for (
    const { maxSize, asDatagrams } of [{ maxSize: 1_200, asDatagrams: 0 }, { maxSize: 1_281, asDatagrams: 2 }]
  ) {
    const { near, far, wires } = tunnel({ maxSize });
    for (const fragment of fragments) sendPacket(near.end, fragment);
    await turn();
    assert.deepEqual(far.packets, fragments.map(toHex));
    assert.equal(wires[0].sent.length, asDatagrams);
  }
});

Deno.test("ConnectIp sends a packet behind its lists where it is asked to", async () => {
  const { near, wires, streams } = tunnel({ isRunning: false });
  const sending = near.end.sendRoutes(ROUTES);
  const buffer = new Uint8Array(200).fill(7);
  assert.equal(near.end.sendInOrder(buffer, 100, 200), true);
  await sending;
  assert.equal(toHex((await streams[1].read())!), toHex(encodeRouteAdvertisement(ROUTES)));
  const expected = encodeCapsule(DATAGRAM_CAPSULE, concat([Uint8Array.of(0), buffer.subarray(100)]));
  assert.equal(toHex((await streams[1].read())!), toHex(expected));
  assert.equal(wires[0].sent.length, 0);
  near.end.abort();
  assert.equal(near.end.sendInOrder(buffer, 100, 200), false);
});
