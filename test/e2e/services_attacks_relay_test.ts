/**
 * Flows of datagrams at a relay in enemy hands, between real agents and connectors: it may lose datagrams and end flows,
 * and nothing else. No upstream and no program gets what was not meant for it, nor anything twice.
 */

import assert from "node:assert/strict";
import { withDeadline } from "../../src/base/async.ts";
import type { DatagramFlow } from "../../src/dataplane/datagram/datagram_flow.ts";
import { FlowRefusedError } from "../../src/dataplane/errors.ts";
import { splice } from "../../src/dataplane/splice.ts";
import { loadAuthority } from "../../src/identity/authority.ts";
import { signView } from "../../src/identity/view.ts";
import { DialNode } from "../support/dial_node.ts";
import { eventually } from "../support/eventually.ts";
import { Network, spiffeId } from "../support/network.ts";
import type { RogueDatagrams } from "../support/rogue_datagrams.ts";
import { type Rights, type RogueFlow, RogueRelay, viewOf } from "../support/rogue_relay.ts";
import { UdpEcho } from "../support/udp_echo.ts";

const SERVICES = { web: ["connector-1"], admin: ["connector-1"], other: ["connector-2"] };
const RIGHTS: readonly Rights[] = [
  { who: spiffeId("agent", "alice"), dial: SERVICES },
  { who: spiffeId("agent", "bob"), dial: SERVICES },
  {
    who: spiffeId("connector", "connector-1"),
    bind: { web: ["alice", "bob"], admin: ["alice", "bob"] },
  },
  { who: spiffeId("connector", "connector-2"), bind: { other: ["alice", "bob"] } },
];

Deno.test("datagrams that a relay repeats, reorders, forges, cuts, lengthens or reflects arrive once or not at all", async () => {
  await using world = await openWorld();
  const flow = await world.dial("alice", "web");
  // A rogue that behaves carries both sizes: what follows fails for what it does.
  for (const size of [20, 9_000]) {
    const sent = new Uint8Array(size).fill(size);
    flow.send(sent);
    await eventually(() => flow.got.length === 1);
    assert.deepEqual(flow.got.pop(), sent);
  }
  const attacks: Record<string, (datagrams: RogueDatagrams) => RogueDatagrams["take"]> = {
    "repeats": (it) => (way, payload) => {
      for (let i = 0; i < 3; i++) it.send(way, payload);
      for (const old of it.seen[way]) it.send(way, old);
    },
    "reorders": (it) => {
      const held = { toAgent: [] as Uint8Array[], toConnector: [] as Uint8Array[] };
      return (way, payload) => {
        held[way].push(payload);
        if (held[way].length === 4) { for (const old of held[way].splice(0).reverse()) it.send(way, old); }
      };
    },
    "forges": (it) => (way, payload) => {
      for (let at = 0; at < payload.length; at++) {
        it.send(way, payload.with(at, payload[at]! ^ 1 << at % 8));
      }
      it.send(way, payload);
    },
    "cuts and lengthens": (it) => (way, payload) => {
      for (let end = 0; end < payload.length; end++) it.send(way, payload.subarray(0, end));
      it.send(way, new Uint8Array([...payload, 0]));
      it.send(way, new Uint8Array([0, ...payload]));
      it.send(way, payload);
    },
    "reflects": (it) => (way, payload) => {
      it.send(way === "toAgent" ? "toConnector" : "toAgent", payload);
      it.send(way, payload);
    },
    "drops every other": (it) => (way, payload) => {
      if (it.seen[way].length % 2 === 0) it.send(way, payload);
    },
  };
  const { datagrams } = world.flows[0]!;
  for (const [what, attack] of Object.entries(attacks)) {
    const before = world.echo.web.payloads.length;
    datagrams!.seen.toConnector.length = datagrams!.seen.toAgent.length = 0;
    datagrams!.take = attack(datagrams!);
    const sent = Array.from({ length: 8 }, (_, i) => `${what} ${i}`);
    for (const text of sent) flow.send(bytes(text));
    await eventually(() => flow.got.length >= (what === "drops every other" ? 1 : 8));
    // Honest again: what comes last tells that all else has come.
    datagrams!.take = (way, payload) => datagrams!.send(way, payload);
    const last = Array.from({ length: 8 }, (_, i) => `${what}, last ${i}`);
    for (const text of last) flow.send(bytes(text));
    await eventually(() => flow.texts().includes(last.at(-1)!));
    const arrived = world.echo.web.payloads.slice(before).map(texted);
    const known = new Set([...sent, ...last]);
    for (const list of [arrived, flow.texts()]) {
      assert.equal(new Set(list).size, list.length, `${what}: nothing twice`);
      assert.ok(list.every((text) => known.has(text)), `${what}: nothing else`);
    }
    flow.got.length = 0;
  }
});

Deno.test("datagrams that a relay moves to another flow, service, connector or caller reach nobody there", async () => {
  await using world = await openWorld();
  const flows = [
    await world.dial("alice", "web"),
    await world.dial("alice", "web"),
    await world.dial("alice", "admin"),
    await world.dial("alice", "other"),
    await world.dial("bob", "web"),
  ];
  for (const { datagrams } of world.flows) {
    datagrams!.take = (way, payload) => {
      for (const other of world.flows) other.datagrams!.send(way, payload);
    };
  }
  for (let round = 0; round < 3; round++) {
    flows.forEach((flow, i) => flow.send(bytes(`flow ${i} round ${round}`)));
    await eventually(() => flows.every(({ got }) => got.length === round + 1));
  }
  flows.forEach((flow, i) => {
    assert.deepEqual(flow.texts(), [0, 1, 2].map((round) => `flow ${i} round ${round}`));
  });
  const at = (echo: UdpEcho) => echo.payloads.map((payload) => texted(payload).slice(0, 6)).sort();
  assert.deepEqual(new Set(at(world.echo.web)), new Set(["flow 0", "flow 1", "flow 4"]));
  assert.equal(world.echo.web.payloads.length, 9);
  assert.deepEqual(at(world.echo.admin), new Array(3).fill("flow 2"));
  assert.deepEqual(at(world.echo.other), new Array(3).fill("flow 3"));
});

Deno.test("a relay that says another service, port, protocol or caller, or leads elsewhere, gets the flow refused", async () => {
  await using world = await openWorld();
  const { rogue } = world;
  const lies: Record<string, typeof rogue.behaviour> = {
    "another service": { header: (header) => ({ ...header, service: "admin" }) },
    "another port": { header: (header) => ({ ...header, port: 53 }) },
    "a ping in place of UDP": { header: ({ port: _, ...header }) => ({ ...header, protocol: "icmp" }) },
    "TCP in place of UDP": { header: (header) => ({ ...header, protocol: "tcp" }) },
    "another caller": { header: (header) => ({ ...header, caller: spiffeId("agent", "bob") }) },
    "a flow that is not sealed": { header: (header) => ({ ...header, sealed: false }) },
    "no flow id": { header: (header) => ({ ...header, flow: "-1" }) },
    "another connector": { lead: () => rogue.link("connector-2") },
    "another connector, and says so": {
      lead: () => rogue.link("connector-2"),
      name: () => rogue.link("connector-2"),
    },
    "another connector, as a new process of the right one": {
      lead: () => rogue.link("connector-2"),
      name: ({ uri }) => ({ uri, instance: crypto.randomUUID() }),
    },
  };
  for (const [what, { header, ...lie }] of Object.entries(lies)) {
    Object.assign(rogue.behaviour, { lead: undefined, name: undefined, ...lie }, {
      header: header && ((said: Parameters<typeof header>[0]) => said.kind === "flow" ? header(said) : said),
    });
    await assert.rejects(world.dial("alice", "web"), (error) => error instanceof Error, what);
  }
  for (const echo of Object.values(world.echo)) assert.deepEqual(echo.payloads, []);
  Object.assign(rogue.behaviour, { lead: undefined, name: undefined, header: undefined });
  const flow = await world.dial("alice", "web");
  flow.send(bytes("honest"));
  await eventually(() => flow.texts().includes("honest"));
});

Deno.test("what a relay kept of a flow that has ended reaches nobody, under its id or another's", async () => {
  await using world = await openWorld();
  const first = await world.dial("alice", "web");
  for (const text of ["one", "two"]) first.send(bytes(text));
  await eventually(() => first.got.length === 2);
  const { datagrams: kept } = world.flows[0]!;
  first.flow.close();
  await withDeadline(5_000, () => first.flow.closed);
  const second = await world.dial("alice", "web");
  const { datagrams: open } = world.flows[1]!;
  for (const old of kept!.seen.toConnector) for (const it of [kept!, open!]) it.send("toConnector", old);
  for (const old of kept!.seen.toAgent) for (const it of [kept!, open!]) it.send("toAgent", old);
  second.send(bytes("three"));
  await eventually(() => second.texts().includes("three"));
  assert.deepEqual(second.texts(), ["three"]);
  assert.deepEqual(first.texts(), ["one", "two"]);
  assert.deepEqual(world.echo.web.payloads.map(texted), ["one", "two", "three"]);
});

Deno.test("a relay that cuts a flow's stream breaks the flow, and no end tells its program that all is well", async () => {
  await using world = await openWorld();
  for (const cut of ["agent", "connector"] as const) {
    const { flow, send, texts } = await world.dial("alice", "web");
    send(bytes(cut));
    await eventually(() => texts().includes(cut));
    await world.flows.at(-1)![cut].closeWrite();
    world.flows.at(-1)![cut].abort();
    const error = await withDeadline(5_000, () => flow.closed);
    assert.ok(error instanceof Error && !(error instanceof FlowRefusedError), String(error));
  }
});

interface TestFlow {
  readonly flow: DatagramFlow;
  readonly got: Uint8Array[];
  send(payload: Uint8Array<ArrayBuffer>): void;
  texts(): string[];
}

interface World extends AsyncDisposable {
  readonly rogue: RogueRelay;
  readonly echo: Readonly<Record<keyof typeof SERVICES, UdpEcho>>;
  /** Flows of datagrams that both ends have agreed to, in the order in which they were asked for. */
  readonly flows: RogueFlow[];
  dial(who: "alice" | "bob", service: keyof typeof SERVICES): Promise<TestFlow>;
}

async function openWorld(): Promise<World> {
  await using stack = new AsyncDisposableStack();
  const network = stack.use(await Network.create());
  const authority = await loadAuthority(`${network.folder}/ca/authority.key`);
  const views = new Map<string, string>();
  for (const rights of RIGHTS) views.set(rights.who, await signView({ authority, view: viewOf(rights) }));
  const flows: RogueFlow[] = [];
  const rogue = stack.use(
    await RogueRelay.start(network, {
      views: (who) => [views.get(who) ?? ""],
      carry: async (flow) => {
        if (flow.datagrams !== undefined) flows.push(flow);
        await splice(flow.agent, flow.connector);
      },
    }),
  );
  const echo = {
    web: stack.use(UdpEcho.start()),
    admin: stack.use(UdpEcho.start()),
    other: stack.use(UdpEcho.start()),
  };
  const at = ({ port }: UdpEcho) => `udp://127.0.0.1:${port}`;
  const config = { carrier: "quic" };
  const relays = [rogue];
  await network.connector({ relays, services: { web: at(echo.web), admin: at(echo.admin) }, config });
  await network.connector({ name: "connector-2", relays, services: { other: at(echo.other) }, config });
  const nodes = {
    alice: stack.use(await DialNode.open(network, { relays })),
    bob: stack.use(await DialNode.open(network, { relays, name: "bob" })),
  };
  const undo = stack.move();
  return {
    ...{ rogue, echo, flows },
    dial: async (who, service) => {
      const signal = AbortSignal.timeout(10_000);
      const target = { service, protocol: "udp", port: 7 } as const;
      const flow = await nodes[who].dialer.connectDatagrams(target, { signal });
      const got: Uint8Array[] = [];
      flow.receive((payload) => void got.push(payload.slice()));
      return {
        ...{ flow, got },
        send: (payload) => void flow.send(payload, 0, payload.length),
        texts: () => got.map(texted),
      };
    },
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

function texted(payload: Uint8Array): string {
  return new TextDecoder().decode(payload);
}
