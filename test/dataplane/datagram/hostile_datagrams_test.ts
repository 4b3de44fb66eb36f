/**
 * What a relay can try on a flow of datagrams. Whatever it does to datagrams is dropped in silence; whatever it does to
 * the flow's stream ends the flow, and nobody gets a byte that the other end did not send.
 */

import assert from "node:assert/strict";
import { DataplaneError, FlowRefusedError } from "../../../src/dataplane/errors.ts";
import { RECORD_TYPE, RecordSealer } from "../../../src/dataplane/record.ts";
import { pattern } from "../../io/support.ts";
import { attemptDatagramFlow, openTestDatagramFlow } from "../../support/datagram_flow.ts";
import { eventually } from "../../support/eventually.ts";
import { CUT, faithful } from "../../support/hostile_relay.ts";
import { sessionPair } from "../../support/session_pair.ts";

Deno.test("a relay that repeats, reorders, forges, cuts or reflects datagrams changes nothing", async () => {
  await using session = await sessionPair();
  const flow = await openTestDatagramFlow(session);
  const other = await openTestDatagramFlow(session);
  const { agent, connector, wires: [near, far] } = flow;
  const seen: Uint8Array<ArrayBuffer>[] = [];
  near.carry = (datagram) => void seen.push(datagram);
  for (const byte of [1, 2, 3]) assert.ok(agent.send(Uint8Array.of(byte), 0, 1));
  const [first, second, third] = seen as [
    Uint8Array<ArrayBuffer>,
    Uint8Array<ArrayBuffer>,
    Uint8Array<ArrayBuffer>,
  ];
  const forged = first.slice();
  forged[10]! ^= 1;
  for (
    const datagram of [third, first, third, forged, first, first.slice(0, 20), new Uint8Array(0), second]
  ) {
    far.deliver(datagram);
  }
  // Reflected to its sender, and into another flow of the same session.
  near.deliver(first);
  other.wires[1].deliver(first);
  assert.deepEqual(flow.atConnector.map((payload) => payload[0]), [3, 1, 2]);
  assert.deepEqual(connector.faults, { malformed: 2, replayed: 3, forged: 0 });
  const fresh = forged.slice();
  fresh[7] = 99;
  far.deliver(fresh);
  assert.equal(connector.faults.forged, 1);
  assert.deepEqual([flow.atAgent, other.atConnector], [[], []]);
  assert.deepEqual([agent.faults.forged, other.connector.faults.forged], [1, 1]);
  assert.deepEqual(connector.counters, { sent: 0, received: 3 });
  agent.close();
  other.agent.close();
  await Promise.all([connector.closed, other.connector.closed]);
});

Deno.test("a relay that cuts, drops or forges records ends the flow with what it did", async () => {
  await using session = await sessionPair();
  const attacks = [
    { code: "ERR_FLOW_TRUNCATED", change: (_: Uint8Array) => [CUT] },
    { code: "ERR_RECORD_SEQUENCE", change: (bytes: Uint8Array) => [bytes, bytes] },
    {
      code: "ERR_RECORD_FORGED",
      change: (bytes: Uint8Array) => {
        const forged = bytes.slice();
        forged[forged.length - 1]! ^= 1;
        return [forged];
      },
    },
  ];
  for (const { code, change } of attacks) {
    const flow = await openTestDatagramFlow(session, {
      toConnector: (unit) => unit?.type === RECORD_TYPE.DATA ? change(unit.bytes) : faithful(unit),
    });
    const payload = pattern(3_000);
    assert.ok(flow.agent.send(payload, 0, payload.length));
    const error = await flow.connector.closed;
    assert.ok(error instanceof DataplaneError);
    assert.equal(error.code, code);
    assert.ok(await flow.agent.closed instanceof Error);
    assert.deepEqual(flow.atConnector, code === "ERR_RECORD_SEQUENCE" ? [payload] : []);
  }
});

Deno.test("records that end inside a datagram, from a peer with keys, end the flow", async () => {
  await using session = await sessionPair();
  for (const [index, data] of [[0], [0, 2, 1], [0, 1, 7, 0], [255, 255, 1]].entries()) {
    const flow = await openTestDatagramFlow(session);
    const sealer = new RecordSealer(session.agent.flowKeys(BigInt(index)).send);
    const target = new Uint8Array(100);
    // In the agent's place: its OPEN was number 0.
    sealer.seal(RECORD_TYPE.OPEN, Uint8Array.of(0), { target, offset: 0 });
    const end = sealer.seal(RECORD_TYPE.DATA, Uint8Array.from(data), { target, offset: 0 });
    await flow.relay.relayToConnector.write(target.subarray(0, end));
    const error = await flow.connector.closed;
    assert.ok(error instanceof DataplaneError);
    assert.equal(error.code, "ERR_RECORD_MALFORMED");
    assert.ok(await flow.agent.closed instanceof Error);
  }
});

Deno.test("a relay cannot turn one flow into another: service, port, protocol and caller are compared", async () => {
  await using session = await sessionPair();
  const truth = { service: "web", port: 53, protocol: "udp", caller: session.agent.self } as const;
  const lies = [
    { service: "other" },
    { port: 54 },
    { protocol: "icmp" as const },
    { protocol: "tcp" as const },
    { caller: session.connector.self },
  ];
  for (const lie of lies) {
    const { agent, connector } = attemptDatagramFlow(session, {
      target: { port: 53 },
      accept: { relayed: { ...truth, ...lie }, dial: () => assert.fail("dialled") },
    });
    const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
    assert.ok(atAgent.status === "rejected" && atConnector.status === "rejected");
    assert.ok(atAgent.reason instanceof FlowRefusedError);
    assert.equal(atAgent.reason.reason, "redirected");
    assert.equal(atConnector.reason.code, "ERR_FLOW_REDIRECTED");
  }
});

Deno.test("a stream that is not read holds a few records, drops the rest, and takes more when there is room", async () => {
  await using session = await sessionPair();
  const { agent, connector, atConnector, relay } = await openTestDatagramFlow(session, {
    maxSize: 0,
    capacity: 1,
  });
  const payload = pattern(60_000);
  let sent = 0;
  while (agent.send(payload, 0, payload.length)) sent++;
  assert.equal(sent, 4);
  await agent.writable();
  assert.ok(agent.send(payload, 0, payload.length));
  await eventually(() => atConnector.length === sent + 1);
  for (const got of atConnector) assert.deepEqual(got, payload);
  relay.relayToAgent.abort();
  assert.ok(await agent.closed instanceof Error);
  assert.ok(await connector.closed instanceof Error);
});
