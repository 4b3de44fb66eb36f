/**
 * What a hostile relay can try on flows, and the code under which the ends refuse it. No attack may deliver one byte of
 * plaintext that the other end did not send at that place.
 */

import assert from "node:assert/strict";
import type { ByteChannel } from "../../src/base/channel.ts";
import { utf8 } from "../../src/base/bytes.ts";
import type { AcceptFlowOptions } from "../../src/dataplane/flow.ts";
import { encodePreamble } from "../../src/dataplane/open_header.ts";
import { RECORD_OVERHEAD, RECORD_TYPE } from "../../src/dataplane/record.ts";
import { acceptSession, openSession } from "../../src/dataplane/session.ts";
import { channelPair } from "../support/channel_pair.ts";
import { CUT, faithful, type Meddle, type Unit } from "../support/hostile_relay.ts";
import { acceptTestFlow, attemptFlow, sealedFlow } from "../support/sealed_flow.ts";
import { type SessionPair, sessionPair } from "../support/session_pair.ts";
import { testNetwork } from "../support/test_network.ts";

const network = await testNetwork();
const alice = await network.issue("agent", "alice");
const mallory = await network.issue("agent", "mallory");
const site = await network.issue("connector", "site");

// ---- records of an open flow -------------------------------------------------------------------------------

/** Each attack sees DATA records "0123" and "4567" and FIN from one end; `good` is what may arrive before. */
const RECORD_ATTACKS: readonly {
  readonly name: string;
  readonly code: string;
  readonly good: string;
  readonly meddle: () => Meddle;
}[] = [
  {
    name: "cuts the stream after a record",
    code: "ERR_FLOW_TRUNCATED",
    good: "0123",
    meddle: () => stopAt(2),
  },
  {
    name: "drops the end",
    code: "ERR_FLOW_TRUNCATED",
    good: "01234567",
    meddle: () => without(RECORD_TYPE.FIN),
  },
  {
    name: "cuts the stream inside a record",
    code: "ERR_FLOW_TRUNCATED",
    good: "0123",
    meddle: () => {
      let isCut = false;
      return (unit) => {
        if (isCut || unit === undefined) return [];
        isCut = isSecondData(unit);
        return isCut ? [unit.bytes.subarray(0, -1), CUT] : [unit.bytes];
      };
    },
  },
  {
    name: "drops a record",
    code: "ERR_RECORD_SEQUENCE",
    good: "",
    meddle: () => (unit) => isFirstData(unit) ? [] : faithful(unit),
  },
  {
    name: "swaps two records",
    code: "ERR_RECORD_SEQUENCE",
    good: "",
    meddle: () => {
      let held: Uint8Array;
      return (unit) => {
        if (isFirstData(unit)) return held = unit!.bytes, [];
        return isSecondData(unit) ? [unit!.bytes, held] : faithful(unit);
      };
    },
  },
  {
    name: "repeats a record",
    code: "ERR_RECORD_SEQUENCE",
    good: "0123",
    meddle: () => (unit) => isFirstData(unit) ? [unit!.bytes, unit!.bytes] : faithful(unit),
  },
  {
    name: "repeats a record with a fresh sequence number",
    code: "ERR_RECORD_FORGED",
    good: "0123",
    meddle: () => {
      let first: Uint8Array;
      return (unit) => {
        if (isFirstData(unit)) first = unit!.bytes;
        if (!isSecondData(unit)) return faithful(unit);
        const copied = first.slice();
        copied.set(unit!.bytes.subarray(5, 13), 5);
        return [copied];
      };
    },
  },
  {
    name: "turns DATA into the end",
    code: "ERR_RECORD_TOO_LONG",
    good: "0123",
    meddle: () => (unit) => isSecondData(unit) ? [altered(unit!.bytes, 0, RECORD_TYPE.FIN)] : faithful(unit),
  },
  {
    name: "turns the end into a reset",
    code: "ERR_RECORD_MALFORMED",
    good: "01234567",
    meddle: () => (unit) =>
      unit?.type === RECORD_TYPE.FIN ? [altered(unit.bytes, 0, RECORD_TYPE.RESET)] : faithful(unit),
  },
  {
    name: "forges an end of its own",
    code: "ERR_RECORD_FORGED",
    good: "0123",
    meddle: () => (unit) => isSecondData(unit) ? [endRecord(unit!)] : faithful(unit),
  },
  {
    name: "claims more than a record may hold",
    code: "ERR_RECORD_TOO_LONG",
    good: "0123",
    meddle: () => (unit) => isSecondData(unit) ? [altered(unit!.bytes, 2, 0xff)] : faithful(unit),
  },
  {
    name: "injects garbage",
    code: "ERR_RECORD_MALFORMED",
    good: "0123",
    meddle: () => (unit) => isSecondData(unit) ? [new Uint8Array(100).fill(0x5a)] : faithful(unit),
  },
];

for (const { name, code, good, meddle } of RECORD_ATTACKS) {
  for (const direction of ["toConnector", "toAgent"] as const) {
    Deno.test(`a relay that ${name} (${direction}) is detected: ${code}`, async () => {
      await using session = await sessionPair(network);
      const { agent, connector } = await sealedFlow(session, { [direction]: meddle() });
      const [sender, receiver] = direction === "toConnector" ? [agent, connector] : [connector, agent];
      const sending = (async () => {
        await sender.write(utf8("0123"));
        await sender.write(utf8("4567"));
        await sender.closeWrite();
      })().catch(() => "the receiver may have hung up by now");
      const { text, error } = await receiveText(receiver);
      await sending;
      assert.equal(text, good);
      assert.equal(error?.code, code);
      sender.abort();
    });
  }
}

Deno.test("a relay that flips any bit of a record is detected, and nothing of the record is delivered", async () => {
  await using session = await sessionPair(network);
  const length = RECORD_OVERHEAD + 4;
  const codes = new Map<string, number>();
  for (let bit = 0; bit < length * 8; bit++) {
    const { agent, connector } = await sealedFlow(session, {
      toConnector: (unit) => isFirstData(unit) ? [flipped(unit!.bytes, bit)] : faithful(unit),
    });
    await agent.write(utf8("0123"));
    // A greater length makes the connector wait: the agent's end of the stream then cuts the record.
    await agent.closeWrite();
    agent.abort();
    const { text, error } = await receiveText(connector);
    assert.equal(text, "", `bit ${bit}`);
    assert.ok(error !== undefined, `bit ${bit}`);
    codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
  }
  assert.deepEqual([...codes.keys()].sort(), [
    "ERR_FLOW_TRUNCATED",
    "ERR_RECORD_FORGED",
    "ERR_RECORD_MALFORMED",
    "ERR_RECORD_SEQUENCE",
    "ERR_RECORD_TOO_LONG",
  ]);
});

Deno.test("a relay that adds to the end of a flow breaks it", async () => {
  await using session = await sessionPair(network);
  const { agent, connector } = await sealedFlow(session, {
    toConnector: (unit) => unit?.type === RECORD_TYPE.FIN ? [unit.bytes, unit.bytes] : faithful(unit),
  });
  const broken = Promise.withResolvers<Error & { code?: string }>();
  connector.onBreak(broken.resolve);
  await agent.closeWrite();
  assert.equal(await connector.read(), null);
  assert.equal((await broken.promise).code, "ERR_RECORD_SEQUENCE");
  await assert.rejects(connector.write(utf8("x")), { code: "ERR_RECORD_SEQUENCE" });
  agent.abort();
});

Deno.test("a relay that splices one flow's record into another is detected", async () => {
  await using session = await sessionPair(network);
  let stolen: Uint8Array | undefined;
  const first = await sealedFlow(session, {
    toConnector: (unit) => (isFirstData(unit) && (stolen = unit!.bytes), faithful(unit)),
  });
  const second = await sealedFlow(session, {
    toConnector: (unit) => isFirstData(unit) ? [stolen!] : faithful(unit),
  });
  await first.agent.write(utf8("of the first flow"));
  assert.equal((await first.connector.read())!.length, 17);
  await second.agent.write(utf8("of the second flow"));
  await assert.rejects(second.connector.read(), { code: "ERR_RECORD_FORGED" });
  for (const channel of [first.agent, second.agent]) channel.abort();
  await assert.rejects(first.connector.read(), { code: "ERR_CHANNEL_RESET" });
});

Deno.test("a relay that splices a record of another session into a flow is detected", async () => {
  await using one = await sessionPair(network);
  await using other = await sessionPair(network);
  let stolen: Uint8Array | undefined;
  const first = await sealedFlow(one, {
    toConnector: (unit) => (isFirstData(unit) && (stolen = unit!.bytes), faithful(unit)),
  });
  const second = await sealedFlow(other, {
    toConnector: (unit) => isFirstData(unit) ? [stolen!] : faithful(unit),
  });
  await first.agent.write(utf8("same place, same length"));
  await first.connector.read();
  await second.agent.write(utf8("SAME PLACE, SAME LENGTH"));
  await assert.rejects(second.connector.read(), { code: "ERR_RECORD_FORGED" });
  for (const channel of [first.agent, second.agent]) channel.abort();
});

Deno.test("a relay that reflects records to their sender is detected", async () => {
  await using session = await sessionPair(network);
  const reflected: Uint8Array[] = [];
  const { agent, connector, relay } = await sealedFlow(session, {
    toConnector: (unit) => (isFirstData(unit) && reflected.push(unit!.bytes), faithful(unit)),
  });
  await agent.write(utf8("0123"));
  await connector.read();
  await relay.relayToAgent.write(reflected[0]!);
  await assert.rejects(agent.read(), { code: "ERR_RECORD_FORGED" });
  await assert.rejects(connector.read(), { code: "ERR_CHANNEL_RESET" });
});

// ---- the opening -------------------------------------------------------------------------------------------

Deno.test("a relay that redirects a flow is refused by the connector, and the agent learns it", async () => {
  await using session = await sessionPair(network);
  const honest = { service: "web", protocol: "tcp", caller: alice.id.uri } as const;
  const lies: readonly AcceptFlowOptions["relayed"][] = [
    { ...honest, service: "payroll" },
    { ...honest, port: 22 },
    { ...honest, caller: mallory.id.uri },
  ];
  for (const relayed of lies) {
    const { agent, connector } = attemptFlow(session, { accept: { relayed, ...mustNotRun } });
    const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
    assert.equal(codeOf(atConnector), "ERR_FLOW_REDIRECTED");
    assert.equal(codeOf(atAgent), "ERR_FLOW_REFUSED");
    assert.ok(atAgent.status === "rejected" && atAgent.reason.reason === "redirected");
  }
});

Deno.test("a relay that replays an opening is refused, and nothing is sealed for it", async () => {
  await using session = await sessionPair(network);
  const recorded: Uint8Array[] = [];
  const { agent, connector } = await sealedFlow(session, {
    toConnector: (unit) => (unit !== undefined && recorded.push(unit.bytes), faithful(unit)),
  });
  await agent.write(utf8("0123"));
  await connector.read();
  const [replayer, victim] = channelPair();
  for (const bytes of recorded) await replayer.write(bytes);
  await assert.rejects(acceptTestFlow(session, victim, mustNotRun), { code: "ERR_FLOW_REPLAYED" });
  // A sealed answer under used nonces would give the flow's bytes away.
  await assert.rejects(replayer.read(), { code: "ERR_CHANNEL_RESET" });
  agent.abort();
});

Deno.test("two replays at once get one flow", async () => {
  await using session = await sessionPair(network);
  const { agent, connector, relay } = attemptFlow(session, { toConnector: (unit) => twice(unit) });
  const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
  assert.ok(atAgent.status === "fulfilled" && atConnector.status === "fulfilled");
  await assert.rejects(atConnector.value.channel.read(), { code: "ERR_RECORD_SEQUENCE" });
  atAgent.value.abort();
  relay.relayToConnector.abort();
});

Deno.test("a relay that changes the preamble is refused", async () => {
  await using session = await sessionPair(network);
  await using other = await sessionPair(network);
  const cases: readonly [code: string, preamble: Uint8Array][] = [
    ["ERR_FLOW_OPEN", altered(encodePreamble({ sessionId: session.agent.id, flowId: 0n }), 0, 2)],
    ["ERR_FLOW_UNKNOWN_SESSION", encodePreamble({ sessionId: "00".repeat(16), flowId: 0n })],
    ["ERR_RECORD_FORGED", encodePreamble({ sessionId: other.agent.id, flowId: 0n })],
    ["ERR_RECORD_FORGED", encodePreamble({ sessionId: session.agent.id, flowId: 99n })],
  ];
  for (const [code, preamble] of cases) {
    const { agent, connector } = attemptFlow(session, {
      toConnector: (unit) => unit?.type === 0 ? [preamble] : faithful(unit),
      accept: {
        ...mustNotRun,
        findSession: (id) => [session.connector, other.connector].find((candidate) => candidate.id === id),
      },
    });
    const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
    assert.equal(codeOf(atConnector), code);
    assert.equal(codeOf(atAgent), "ERR_CHANNEL_RESET");
  }
});

Deno.test("a relay that answers in the connector's place is refused by the agent", async () => {
  await using session = await sessionPair(network);
  const cases: readonly [code: string, answer: (open: Unit) => Uint8Array][] = [
    ["ERR_RECORD_TOO_LONG", ({ bytes }) => altered(bytes, 0, RECORD_TYPE.OPENED)],
    ["ERR_RECORD_FORGED", ({ bytes }) => bytes],
    ["ERR_RECORD_FORGED", () => Uint8Array.of(RECORD_TYPE.OPENED, ...new Uint8Array(RECORD_OVERHEAD - 1))],
    ["ERR_RECORD_FORGED", () => Uint8Array.of(RECORD_TYPE.RESET, 0, 0, 0, 1, ...new Uint8Array(25))],
    ["ERR_FLOW_TRUNCATED", () => new Uint8Array(0)],
  ];
  for (const [code, answer] of cases) {
    const { agent, connector, relay } = attemptFlow(session, {
      toConnector: (unit) => {
        if (unit?.type !== RECORD_TYPE.OPEN) return [];
        void relay.relayToAgent.write(answer(unit)).then(() => relay.relayToAgent.closeWrite());
        return [];
      },
      accept: mustNotRun,
    });
    const [atAgent, atConnector] = await Promise.allSettled([agent, connector]);
    assert.equal(codeOf(atAgent), code);
    assert.ok(atConnector.status === "rejected");
  }
});

Deno.test("a relay that sends data before the opening, or the opening twice, is refused", async () => {
  await using session = await sessionPair(network);
  const { agent, connector } = attemptFlow(session, {
    toConnector: (unit) =>
      unit?.type === RECORD_TYPE.OPEN ? [altered(unit.bytes, 0, RECORD_TYPE.DATA)] : faithful(unit),
    accept: mustNotRun,
  });
  const [, atConnector] = await Promise.allSettled([agent, connector]);
  assert.equal(codeOf(atConnector), "ERR_RECORD_FORGED");
});

Deno.test("a valid identity that takes over another's flow stream is refused", async () => {
  await using session = await sessionPair(network);
  const [near, far] = channelPair();
  const [malloryAgent, malloryConnector] = await Promise.all([
    openSession({ channel: near, identity: mallory, roots: network.roots, expectPeer: site.id.uri }),
    acceptSession({ channel: far, identity: site, roots: network.roots }),
  ]);
  // The relay says the flow is alice's, and lets mallory speak on it.
  const stolen: SessionPair = { ...session, agent: malloryAgent, connector: malloryConnector };
  const relayed = { service: "web", protocol: "tcp", caller: alice.id.uri } as const;
  const { agent, connector } = attemptFlow(stolen, { accept: { relayed, ...mustNotRun } });
  const [, atConnector] = await Promise.allSettled([agent, connector]);
  assert.equal(codeOf(atConnector), "ERR_FLOW_REDIRECTED");
  malloryAgent.close();
  await Promise.all([malloryAgent.closed, malloryConnector.closed]);
});

// ---- helpers -----------------------------------------------------------------------------------------------

const mustNotRun: Pick<AcceptFlowOptions, "authorize" | "dial"> = {
  authorize: () => assert.fail("An attack got as far as the policy"),
  dial: () => assert.fail("An attack got as far as the upstream"),
};

async function receiveText(
  channel: ByteChannel,
): Promise<{ text: string; error?: Error & { code: string } }> {
  let text = "";
  try {
    let chunk: Uint8Array | null;
    while ((chunk = await channel.read()) !== null) text += String.fromCharCode(...chunk);
    return { text };
  } catch (error) {
    return { text, error: error as Error & { code: string } };
  }
}

function isFirstData(unit: Unit | undefined): boolean {
  return unit?.type === RECORD_TYPE.DATA && unit.index === 1;
}

function isSecondData(unit: Unit | undefined): boolean {
  return unit?.type === RECORD_TYPE.DATA && unit.index === 2;
}

function stopAt(index: number): Meddle {
  return (unit) => {
    if (unit !== undefined && unit.index < index) return [unit.bytes];
    return unit?.index === index ? [CUT] : [];
  };
}

function without(type: number): Meddle {
  return (unit) => unit?.type === type ? [CUT] : faithful(unit);
}

function twice(unit: Unit | undefined): readonly Uint8Array[] {
  return unit?.type === RECORD_TYPE.OPEN ? [unit.bytes, unit.bytes] : faithful(unit);
}

function altered(bytes: Uint8Array, offset: number, value: number): Uint8Array {
  const copied = bytes.slice();
  copied[offset] = value;
  return copied;
}

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  return altered(bytes, bit >> 3, bytes[bit >> 3]! ^ (1 << (bit & 7)));
}

/** An empty FIN record with the sequence number of another record. */
function endRecord(unit: Unit): Uint8Array {
  const bytes = new Uint8Array(RECORD_OVERHEAD);
  bytes[0] = RECORD_TYPE.FIN;
  bytes.set(unit.bytes.subarray(5, 13), 5);
  return bytes;
}

function codeOf(result: PromiseSettledResult<unknown>): string | undefined {
  return result.status === "rejected" ? result.reason.code : undefined;
}
