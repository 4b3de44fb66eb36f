/** Payloads of a connect-udp request's datagrams. */

import assert from "node:assert/strict";
import { ContextDatagrams } from "../../../src/dataplane/datagram/context_datagrams.ts";
import { MemoryDatagrams } from "../../support/datagram_pair.ts";

Deno.test("[RFC9298-4] payloads cross behind context 0; those of another context are dropped", () => {
  const wire = new MemoryDatagrams(1_200);
  const port = new ContextDatagrams(wire);
  const sent: Uint8Array[] = [];
  const got: Uint8Array[] = [];
  wire.carry = (datagram) => void sent.push(datagram);
  port.receive((payload) => void got.push(payload));
  const buffer = new Uint8Array(64).fill(5);
  assert.ok(port.send(buffer, 32, 34));
  assert.ok(port.send(buffer, 32, 32));
  assert.deepEqual(sent, [Uint8Array.of(0, 5, 5), Uint8Array.of(0)]);
  for (const datagram of [[0, 1, 2], [1, 1, 2], [], [0], [0x40, 0, 1]]) {
    wire.deliver(Uint8Array.from(datagram));
  }
  assert.deepEqual(got, [Uint8Array.of(1, 2), new Uint8Array(0)]);
});

Deno.test("the largest payload is what every hop takes, and never negative", () => {
  const wire = new MemoryDatagrams(1_200);
  assert.equal(new ContextDatagrams(wire).maxSize, 1_199);
  assert.equal(new ContextDatagrams(wire, { limit: 1_000 }).maxSize, 1_000);
  assert.equal(new ContextDatagrams(wire, { limit: 0 }).maxSize, 0);
  wire.maxSize = 0;
  assert.equal(new ContextDatagrams(wire).maxSize, 0);
});
