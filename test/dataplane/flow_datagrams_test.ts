import assert from "node:assert/strict";
import fc from "fast-check";
import type { DatagramPort } from "../../src/dataplane/carrier.ts";
import { bridgedSize, DatagramBridge } from "../../src/dataplane/datagram_bridge.ts";
import { FLOW_DATAGRAM_HEADROOM, FlowDatagrams } from "../../src/dataplane/flow_datagrams.ts";
import { datagramPair, type MemoryDatagrams } from "../support/datagram_pair.ts";

const IDS = [0, 1, 63, 64, 16_383, 16_384, 2 ** 30, Number.MAX_SAFE_INTEGER];

Deno.test("flows of one session get their own datagrams, whatever the length of their ids", () => {
  const { near, far } = sessions();
  const got = IDS.map((id) => collect(far.open(id)!));
  IDS.forEach((id, i) => assert.ok(send(near.open(id)!, [i, 1, 2])));
  assert.deepEqual(got, IDS.map((_, i) => [[i, 1, 2]]));
});

Deno.test("a session's datagrams reach no flow that is not open in it under their id", () => {
  const [one, other] = [sessions(), sessions()];
  const got = collect(one.far.open(7)!);
  const elsewhere = collect(other.far.open(8)!);
  for (const id of [6, 8, 70]) send(one.near.open(id)!, [1]);
  assert.deepEqual([got, elsewhere], [[], []]);
});

Deno.test("an id is taken once, until its flow ends; then nothing comes and nothing leaves", () => {
  const { near, far } = sessions();
  const flow = near.open(7)!;
  assert.equal(near.open(7), undefined);
  const got = collect(far.open(7)!);
  flow.end();
  flow.end();
  assert.equal(flow.maxSize, 0);
  assert.equal(send(flow, [1]), false);
  const next = near.open(7)!;
  flow.end();
  assert.equal(near.open(7), undefined, "the end of the old flow is not that of the new");
  send(next, [2]);
  assert.deepEqual(got, [[2]]);
});

Deno.test("datagrams that are cut short, or name nobody, are dropped without an error", () => {
  const [near, far] = datagramPair();
  const got = collect(new FlowDatagrams(far).open(300)!);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 12 }), (bytes) => {
    // 300 in two bytes, and in longer forms than need be.
    fc.pre(!/^(412c|8000012c|c00000000000012c)/.test(bytes.toHex()));
    assert.ok(send(near, [...bytes]));
  }));
  assert.deepEqual(got, []);
});

Deno.test("a flow sends nothing larger than what the rest of its way takes", () => {
  const [near] = datagramPair(100);
  const flow = new FlowDatagrams(near).open(1, { limit: 50 })!;
  assert.equal(flow.maxSize, 50);
  assert.equal(send(flow, new Array(51).fill(0)), false);
  assert.equal(send(flow, new Array(50).fill(0)), true);
  near.maxSize = 40;
  assert.equal(flow.maxSize, 39);
  assert.equal(new FlowDatagrams(near).open(2, { limit: 0 })!.maxSize, 0);
});

Deno.test("a bridge passes payloads on both ways, without contexts and ids, and counts them", () => {
  const { caller, connector, bridge } = bridged();
  const [up, down] = [collect(connector), collect(caller)];
  assert.ok(send(caller, [0, 1, 2, 3]));
  assert.ok(send(connector, [4, 5]));
  assert.ok(send(connector, []));
  assert.deepEqual([up, down], [[[1, 2, 3]], [[0, 4, 5], [0]]]);
  assert.deepEqual(bridge.counters, { datagramsIn: 1, bytesIn: 3, datagramsOut: 2, bytesOut: 2, dropped: 0 });
});

Deno.test("a bridge drops datagrams of other contexts, and takes context 0 in any length [RFC9298-4]", () => {
  const { caller, connector, bridge } = bridged();
  const up = collect(connector);
  for (const bytes of [[], [1, 9], [2, 9], [0x40], [0x40, 1, 9], [0xc0, 0, 0]]) send(caller, bytes);
  assert.deepEqual(up, []);
  send(caller, [0x40, 0, 7]);
  send(caller, [0x80, 0, 0, 0, 8]);
  assert.deepEqual(up, [[7], [8]]);
  assert.equal(bridge.counters.datagramsIn, 2);
});

Deno.test("a bridge drops and counts what the far side does not take, and ends", () => {
  const { caller, connector, bridge, near, far } = bridged();
  const up = collect(connector);
  far.fill();
  send(caller, [0, 1]);
  near.fill();
  send(connector, [1]);
  assert.equal(bridge.counters.dropped, 2);
  far.drain();
  bridge.end();
  send(caller, [0, 2]);
  assert.deepEqual(up, []);
  assert.equal(bridge.counters.dropped, 2);
});

Deno.test("a bridge tells when a path takes less than was promised, not when it is full, gone or asked too much", () => {
  const { caller, connector, near, far, outgrown } = bridged();
  const payload = new Array(1_000).fill(0);
  far.fill();
  send(caller, [0, ...payload]);
  far.drain();
  near.maxSize = 0;
  send(connector, payload);
  near.maxSize = 1_200;
  send(connector, new Array(1_380).fill(0));
  send(connector, payload);
  assert.equal(outgrown(), 0);
  near.maxSize = 1_000;
  send(connector, payload);
  assert.equal(outgrown(), 1);
  far.maxSize = 900;
  send(caller, [0, ...payload]);
  assert.equal(outgrown(), 2);
});

Deno.test("what crosses a bridge is what both hops take", () => {
  const [near] = datagramPair(100);
  assert.equal(bridgedSize(near, { maxSize: 1_000 }), 99);
  assert.equal(bridgedSize(near, { maxSize: 20 }), 20);
  assert.equal(bridgedSize(datagramPair(0)[0], { maxSize: 1_000 }), 0);
});

function sessions(): { readonly near: FlowDatagrams; readonly far: FlowDatagrams } {
  const [near, far] = datagramPair();
  return { near: new FlowDatagrams(near), far: new FlowDatagrams(far) };
}

/** A bridge with the caller's end of its request, and the connector's end of its flow. */
function bridged(): {
  readonly caller: DatagramPort;
  readonly connector: DatagramPort;
  readonly bridge: DatagramBridge;
  /** The relay's own ends. */
  readonly near: MemoryDatagrams;
  readonly far: MemoryDatagrams;
  /** How often the path was found too narrow. */
  readonly outgrown: () => number;
} {
  const [[near, caller], [far, session]] = [datagramPair(), datagramPair()];
  let times = 0;
  const bridge = new DatagramBridge(near, new FlowDatagrams(far).open(5)!, {
    limit: 1_350,
    onOutgrown: () => times++,
  });
  return { caller, connector: new FlowDatagrams(session).open(5)!, bridge, near, far, outgrown: () => times };
}

function collect(port: DatagramPort): number[][] {
  const got: number[][] = [];
  port.receive((payload) => void got.push([...payload]));
  return got;
}

function send(port: DatagramPort, payload: readonly number[]): boolean {
  const buffer = new Uint8Array(FLOW_DATAGRAM_HEADROOM + payload.length);
  buffer.set(payload, FLOW_DATAGRAM_HEADROOM);
  return port.send(buffer, FLOW_DATAGRAM_HEADROOM, buffer.length);
}
