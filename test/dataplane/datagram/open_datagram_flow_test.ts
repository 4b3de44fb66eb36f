/** Flows of datagrams between honest ends: opening, crossing both ways, every way to end. */

import assert from "node:assert/strict";
import { MAX_DATAGRAM } from "../../../src/dataplane/datagram/datagram_flow.ts";
import { SEALED_DATAGRAM_OVERHEAD } from "../../../src/dataplane/datagram/sealed_datagram.ts";
import { DataplaneError, FlowRefusedError, RESET_REASONS } from "../../../src/dataplane/errors.ts";
import type { OpenHeader } from "../../../src/dataplane/open_header.ts";
import { pattern } from "../../io/support.ts";
import { attemptDatagramFlow, openTestDatagramFlow } from "../../support/datagram_flow.ts";
import { eventually } from "../../support/eventually.ts";
import { sessionPair } from "../../support/session_pair.ts";

Deno.test("an open flow carries datagrams both ways, empty ones too", async () => {
  await using session = await sessionPair();
  const asked: OpenHeader[] = [];
  const target = { port: 53, address: "10.1.2.3" };
  const { agent, connector } = attemptDatagramFlow(session, {
    target,
    accept: {
      dial: (header) => {
        asked.push(header);
        return Promise.resolve({ abort: () => {} });
      },
    },
  });
  const [near, { flow: far, header }] = await Promise.all([agent, connector]);
  assert.deepEqual(header, {
    flowId: 0n,
    service: "web",
    protocol: "udp",
    ...target,
    caller: session.agent.self,
    connector: session.connector.self,
  });
  assert.deepEqual(asked, [header]);
  const got: string[] = [];
  far.receive((payload) => void far.send(payload, 0, payload.length));
  near.receive((payload) => void got.push(payload.join()));
  assert.ok(near.send(Uint8Array.of(9, 1, 2, 3, 9), 1, 4));
  assert.ok(near.send(new Uint8Array(0), 0, 0));
  assert.deepEqual(got, ["1,2,3", ""]);
  near.close();
  assert.deepEqual(await Promise.all([near.closed, far.closed]), [undefined, undefined]);
});

Deno.test("what no datagram of the path can carry crosses on the stream, up to the largest of UDP", async () => {
  await using session = await sessionPair();
  for (const maxSize of [0, SEALED_DATAGRAM_OVERHEAD - 1, 1_400]) {
    const flow = await openTestDatagramFlow(session, { maxSize });
    const { agent, connector, atConnector, atAgent } = flow;
    assert.equal(agent.maxPayload, maxSize === 1_400 ? 1_376 : 0);
    const payloads = [0, 1, 1_376, 1_377, 9_000, MAX_DATAGRAM].map((length) => pattern(length));
    for (const payload of payloads) {
      assert.ok(agent.send(payload, 0, payload.length));
      assert.deepEqual(await eventually(() => atConnector.shift()), payload);
      assert.ok(connector.send(payload, 0, payload.length));
      assert.deepEqual(await eventually(() => atAgent.shift()), payload);
    }
    const tooLong = new Uint8Array(MAX_DATAGRAM + 1);
    assert.throws(() => agent.send(tooLong, 0, tooLong.length), RangeError);
    connector.close();
    assert.equal(await agent.closed, undefined);
  }
});

Deno.test("a refusal tells the agent its reason, and nothing is dialled for a denied caller", async () => {
  await using session = await sessionPair();
  for (const reason of RESET_REASONS) {
    const { agent, connector } = attemptDatagramFlow(session, {
      accept: { dial: () => Promise.reject(new FlowRefusedError(reason)) },
    });
    const [atAgent] = await Promise.allSettled([agent, connector]);
    assert.ok(atAgent.status === "rejected");
    assert.equal(atAgent.reason.reason, reason);
  }
  const { agent, connector } = attemptDatagramFlow(session, {
    accept: {
      authorize: () => ({ verdict: "deny", reason: "no view" }),
      dial: () => assert.fail("dialled"),
    },
  });
  const [atAgent] = await Promise.allSettled([agent, connector]);
  assert.ok(atAgent.status === "rejected");
  assert.equal(atAgent.reason.reason, "denied");
});

Deno.test("each end learns how the other ended the flow", async () => {
  await using session = await sessionPair();
  const refused = await openTestDatagramFlow(session);
  refused.connector.close(new FlowRefusedError("upstream-refused"));
  const told = await refused.agent.closed;
  assert.ok(told instanceof FlowRefusedError);
  assert.equal(told.reason, "upstream-refused");
  assert.equal(await refused.connector.closed, undefined);

  const failed = await openTestDatagramFlow(session);
  const reason = new Error("The view no longer allows this flow");
  failed.agent.fail(reason);
  assert.equal(await failed.agent.closed, reason);
  assert.equal((await failed.connector.closed as FlowRefusedError).reason, "reset");

  const idle = await openTestDatagramFlow(session);
  const idled = new DataplaneError("ERR_FLOW_IDLE", "Flow was idle too long");
  idle.agent.fail(idled);
  assert.equal(await idle.agent.closed, idled);
  assert.equal(await idle.connector.closed, undefined);
});

Deno.test("nothing crosses a flow that has ended, and whoever waits for it is woken", async () => {
  await using session = await sessionPair();
  const { agent, connector, wires, atConnector } = await openTestDatagramFlow(session);
  wires[0].fill();
  assert.equal(agent.send(new Uint8Array(9), 0, 9), false);
  const waiting = agent.writable();
  agent.close();
  agent.close(new Error("again"));
  await waiting;
  await agent.writable();
  wires[0].drain();
  assert.equal(agent.send(new Uint8Array(9), 0, 9), false);
  assert.equal(await connector.closed, undefined);
  assert.deepEqual(atConnector, []);
});

Deno.test("the end of the session ends its flows at both ends", async () => {
  const session = await sessionPair();
  const { agent, connector } = await openTestDatagramFlow(session);
  session.agent.close("revoked");
  assert.equal((await agent.closed as DataplaneError).code, "ERR_SESSION_CLOSED");
  await connector.closed;
  await session.connector.closed;
});
