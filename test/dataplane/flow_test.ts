/** Opening sealed flows between honest ends: consent, refusal with its reason, time limits. */

import assert from "node:assert/strict";
import { utf8, utf8Decode } from "../../src/base/bytes.ts";
import { type DataplaneError, FlowRefusedError, RESET_REASONS } from "../../src/dataplane/errors.ts";
import { openFlow } from "../../src/dataplane/flow.ts";
import type { OpenHeader } from "../../src/dataplane/open_header.ts";
import { splice } from "../../src/dataplane/splice.ts";
import { channelPair } from "../support/channel_pair.ts";
import { acceptTestFlow, attemptFlow } from "../support/sealed_flow.ts";
import { sessionPair } from "../support/session_pair.ts";

Deno.test("an accepted flow joins the agent to the upstream", async () => {
  await using session = await sessionPair();
  const [upstream, service] = channelPair();
  const asked: OpenHeader[] = [];
  const { agent, connector } = attemptFlow(session, {
    accept: {
      authorize: (header) => {
        asked.push(header);
        return { verdict: "allow" };
      },
      dial: (header) => {
        asked.push(header);
        return Promise.resolve(upstream);
      },
    },
  });
  const accepted = await connector;
  assert.deepEqual(accepted.header, {
    flowId: 0n,
    service: "web",
    protocol: "tcp",
    caller: session.agent.self,
    connector: session.connector.self,
  });
  assert.deepEqual(asked, [accepted.header, accepted.header]);
  const carried = splice(accepted.channel, accepted.upstream);
  const flow = await agent;
  await flow.write(utf8("ping"));
  assert.equal(utf8Decode((await service.read())!), "ping");
  await service.write(utf8("pong!"));
  assert.equal(utf8Decode((await flow.read())!), "pong!");
  await flow.closeWrite();
  assert.equal(await service.read(), null);
  await service.closeWrite();
  assert.equal(await flow.read(), null);
  assert.deepEqual(await carried, { bytesAtoB: 4, bytesBtoA: 5, outcome: "closed" });
});

Deno.test("a denied flow is refused at the agent with the reason, and never dialled", async () => {
  await using session = await sessionPair();
  let dialled = 0;
  const { agent, connector } = attemptFlow(session, {
    accept: {
      authorize: () => ({ verdict: "deny", reason: "no view" }),
      dial: () => Promise.resolve(channelPair()[dialled++]!),
    },
  });
  const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
  assert.ok(atAgent.status === "rejected" && atConnector.status === "rejected");
  assert.ok(atAgent.reason instanceof FlowRefusedError);
  assert.equal(atAgent.reason.reason, "denied");
  assert.equal(atConnector.reason.code, "ERR_FLOW_REFUSED");
  assert.equal(dialled, 0);
});

Deno.test("every reason a dial gives reaches the agent", async () => {
  await using session = await sessionPair();
  for (const reason of RESET_REASONS) {
    const { agent, connector } = attemptFlow(session, {
      accept: { dial: () => Promise.reject(new FlowRefusedError(reason)) },
    });
    const [atAgent] = await Promise.allSettled([agent, connector]);
    assert.ok(atAgent.status === "rejected");
    assert.equal(atAgent.reason.reason, reason);
  }
});

Deno.test("a dial that fails otherwise reads as upstream-unreachable", async () => {
  await using session = await sessionPair();
  const failure = new Error("no route");
  const { agent, connector } = attemptFlow(session, { accept: { dial: () => Promise.reject(failure) } });
  const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
  assert.ok(atAgent.status === "rejected" && atConnector.status === "rejected");
  assert.equal(atAgent.reason.reason, "upstream-unreachable");
  assert.equal(atConnector.reason, failure);
});

Deno.test("the opening gives up when its signal fires, at either end", async () => {
  await using session = await sessionPair();
  const reason = new Error("took too long");
  const stalled = attemptFlow(session, {
    accept: {
      signal: AbortSignal.abort(reason),
    },
  });
  await assert.rejects(stalled.connector, reason);
  await assert.rejects(stalled.agent, { code: "ERR_CHANNEL_RESET" });

  const [near, far] = channelPair();
  const controller = new AbortController();
  const header = { service: "web", protocol: "tcp" } as const;
  const opening = openFlow({ channel: near, session: session.agent, header, signal: controller.signal });
  controller.abort(reason);
  await assert.rejects(opening, reason);
  assert.ok(near.isAborted);
  far.abort();
});

Deno.test("a signal that fires while the upstream is dialled aborts the dial and the stream", async () => {
  await using session = await sessionPair();
  const controller = new AbortController();
  const reason = new Error("shutting down");
  const { agent, connector, relay } = attemptFlow(session, {
    accept: {
      signal: controller.signal,
      dial: (_header, signal) =>
        new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          controller.abort(reason);
        }),
    },
  });
  const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
  assert.ok(atAgent.status === "rejected" && atConnector.status === "rejected");
  assert.equal(atConnector.reason, reason);
  assert.ok(relay.connectorEnd.isAborted);
});

Deno.test("the end of the session ends an opening", async () => {
  const session = await sessionPair();
  const { agent, connector } = attemptFlow(session, {
    accept: {
      dial: (_header, signal) =>
        new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          session.connector.close("revoked");
        }),
    },
  });
  const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
  assert.ok(atAgent.status === "rejected" && atConnector.status === "rejected");
  assert.equal(atConnector.reason.code, "ERR_SESSION_CLOSED");
  await session.agent.closed;
});

Deno.test("a closed session opens no flow", async () => {
  const session = await sessionPair();
  session.agent.close();
  await session.connector.closed;
  const { agent, connector } = attemptFlow(session);
  const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
  assert.ok(atAgent.status === "rejected" && atConnector.status === "rejected");
  assert.equal(atAgent.reason.code, "ERR_SESSION_CLOSED");
});

Deno.test("an upstream dialled for an agent that has gone is closed again", async () => {
  await using session = await sessionPair();
  const [upstream] = channelPair();
  const { agent, connector, relay } = attemptFlow(session, {
    accept: {
      dial: () => {
        relay.relayToConnector.abort();
        return Promise.resolve(upstream);
      },
    },
  });
  const [, atConnector] = await Promise.allSettled([agent, connector]);
  assert.ok(atConnector.status === "rejected");
  assert.ok(upstream.isAborted);
});

Deno.test("findSession may wait for the session", async () => {
  await using session = await sessionPair();
  const { agent, connector } = attemptFlow(session, {
    accept: { findSession: () => Promise.resolve(session.connector) },
  });
  const [flow, accepted] = await Promise.all([agent, connector]);
  flow.abort();
  await assert.rejects(accepted.channel.read(), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("a stream that ends before the flow began is truncated, wherever it ends", async () => {
  await using session = await sessionPair();
  for (const length of [0, 1, 24, 25, 26, 60]) {
    const [near, far] = channelPair();
    const [tap, recorder] = channelPair();
    const header = { service: "web", protocol: "tcp" } as const;
    const opening = openFlow({ channel: tap, session: session.agent, header });
    opening.catch(() => {});
    const wire = (await recorder.read())!.slice();
    recorder.abort();
    await near.write(wire.subarray(0, length));
    await near.closeWrite();
    await assert.rejects(acceptTestFlow(session, far), (error: DataplaneError) => {
      assert.equal(error.code, "ERR_FLOW_TRUNCATED", `after ${length} bytes`);
      return true;
    });
    assert.ok(far.isAborted);
  }
});
