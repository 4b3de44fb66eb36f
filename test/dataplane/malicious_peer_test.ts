/** What a peer with the right keys can do wrong: authentic records where none of their kind may come, lies in OPEN. */

import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { encodeOpenHeader, encodePreamble, type OpenHeader } from "../../src/dataplane/open_header.ts";
import { RECORD_TYPE, type RecordType } from "../../src/dataplane/record.ts";
import { RecordStream } from "../../src/dataplane/record_stream.ts";
import { openFlow } from "../../src/dataplane/flow.ts";
import { channelPair, type MemoryChannel } from "../support/channel_pair.ts";
import { acceptTestFlow } from "../support/sealed_flow.ts";
import { type SessionPair, sessionPair } from "../support/session_pair.ts";

const { OPEN, OPENED, DATA, FIN, RESET } = RECORD_TYPE;

Deno.test("a flow that starts with anything but OPEN is refused", async () => {
  await using session = await sessionPair();
  for (const [type, payload] of [[OPENED, ""], [DATA, "x"], [FIN, ""], [RESET, "x"]] as const) {
    const { far } = await rawOpen(session, { type, payload: utf8(payload) });
    await assert.rejects(acceptTestFlow(session, far), { code: "ERR_RECORD_ORDER" }, `type ${type}`);
    assert.ok(far.isAborted);
  }
});

Deno.test("OPEN that names another flow, caller or connector is refused", async () => {
  await using session = await sessionPair();
  const lies: Partial<OpenHeader>[] = [
    { flowId: 77n },
    { caller: "spiffe://test.example/agent/bob" },
    { connector: "spiffe://test.example/connector/other" },
  ];
  for (const lie of lies) {
    const { far } = await rawOpen(session, { lie });
    await assert.rejects(acceptTestFlow(session, far), { code: "ERR_FLOW_OPEN" });
  }
  const { far } = await rawOpen(session, { payload: utf8("{}") });
  await assert.rejects(acceptTestFlow(session, far), { code: "ERR_FLOW_OPEN" });
});

Deno.test("records out of turn inside an open flow break it", async () => {
  await using session = await sessionPair();
  const cases: readonly [code: string, types: readonly RecordType[]][] = [
    ["ERR_RECORD_ORDER", [OPEN]],
    ["ERR_RECORD_ORDER", [OPENED]],
    ["ERR_RECORD_ORDER", [DATA, OPENED]],
    ["ERR_RECORD_AFTER_FIN", [FIN, DATA]],
    ["ERR_RECORD_AFTER_FIN", [FIN, FIN]],
    ["ERR_RECORD_AFTER_FIN", [DATA, FIN, OPEN]],
    ["ERR_CHANNEL_RESET", [FIN, RESET]],
    ["ERR_CHANNEL_RESET", [DATA, RESET, FIN]],
  ];
  for (const [code, types] of cases) {
    const { records, far } = await rawOpen(session);
    const { channel } = await acceptTestFlow(session, far);
    const broken = Promise.withResolvers<Error & { code?: string }>();
    channel.onBreak(broken.resolve);
    for (const type of types) {
      await records.send(type, { payload: new Uint8Array(type === FIN || type === OPENED ? 0 : 1) });
    }
    try {
      while (await channel.read() !== null);
    } catch (error) {
      assert.equal((error as { code: string }).code, code);
    }
    assert.equal((await broken.promise).code, code, `types ${types}`);
    await assert.rejects(channel.write(utf8("x")), { code });
    assert.ok(far.isAborted);
  }
});

Deno.test("an answer that is neither OPENED nor RESET is refused by the agent", async () => {
  await using session = await sessionPair();
  for (const [type, payload] of [[OPEN, "x"], [DATA, "x"], [FIN, ""]] as const) {
    const [near, far] = channelPair();
    const flowId = session.agent.nextFlowId() + 1n;
    const opening = openFlow({
      channel: near,
      session: session.agent,
      header: { service: "web", protocol: "tcp" },
    });
    const records = new RecordStream({ channel: far, keys: session.connector.flowKeys(flowId) });
    await records.send(type, { payload: utf8(payload) });
    await assert.rejects(opening, { code: "ERR_RECORD_ORDER" }, `type ${type}`);
    assert.ok(near.isAborted);
  }
});

Deno.test("a reset reason of a later version reads as reset", async () => {
  await using session = await sessionPair();
  const [near, far] = channelPair();
  const flowId = session.agent.nextFlowId() + 1n;
  const opening = openFlow({
    channel: near,
    session: session.agent,
    header: { service: "web", protocol: "tcp" },
  });
  const records = new RecordStream({ channel: far, keys: session.connector.flowKeys(flowId) });
  await records.send(RESET, { payload: Uint8Array.of(250) });
  await assert.rejects(opening, { code: "ERR_FLOW_REFUSED", reason: "reset" });
});

/** Speaks the agent's part by hand; the first record is a good OPEN unless told otherwise. */
async function rawOpen(
  session: SessionPair,
  first: { readonly type?: RecordType; readonly payload?: Uint8Array; readonly lie?: Partial<OpenHeader> } =
    {},
): Promise<{ readonly records: RecordStream; readonly far: MemoryChannel }> {
  const flowId = session.agent.nextFlowId();
  const [near, far] = channelPair();
  const records = new RecordStream({ channel: near, keys: session.agent.flowKeys(flowId) });
  const honest: OpenHeader = {
    flowId,
    service: "web",
    protocol: "tcp",
    caller: session.agent.self,
    connector: session.connector.self,
  };
  await records.send(first.type ?? OPEN, {
    payload: first.payload ?? encodeOpenHeader({ ...honest, ...first.lie }),
    prefix: encodePreamble({ sessionId: session.agent.id, flowId }),
  });
  return { records, far };
}
