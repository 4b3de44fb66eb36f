/**
 * Real agents and connectors at a relay in enemy hands: whatever it does with sessions, flows and claims about
 * callers, no byte reaches a service that its sender did not mean for it, and no cut looks like an end.
 */

import assert from "node:assert/strict";
import { utf8Decode } from "../../src/base/bytes.ts";
import type { ByteChannel } from "../../src/base/channel.ts";
import { openFlow } from "../../src/dataplane/flow.ts";
import { acceptSession, openSession } from "../../src/dataplane/session.ts";
import { type Authority, loadAuthority } from "../../src/identity/authority.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { signView } from "../../src/identity/view.ts";
import { eventually } from "../support/eventually.ts";
import { askProxy, LocalClient, proxyStatus } from "../support/local_client.ts";
import { type AgentNode, Network, spiffeId } from "../support/network.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { RelayCaller } from "../support/relay_caller.ts";
import {
  type Rights,
  type RogueBehaviour,
  type RogueFlow,
  RogueRelay,
  viewOf,
} from "../support/rogue_relay.ts";

const ALICE = spiffeId("agent", "alice");

/** Alice may dial `web` and `admin`, both at connector-1, and `other` at connector-2. */
const RIGHTS: readonly Rights[] = [
  { who: ALICE, dial: { web: ["connector-1"], admin: ["connector-1"], other: ["connector-2"] } },
  { who: spiffeId("connector", "connector-1"), bind: { web: ["alice"], admin: ["alice"] } },
  { who: spiffeId("connector", "connector-2"), bind: { other: ["alice"] } },
];

Deno.test("a rogue that behaves carries flows: the other tests fail for what it does, not for what it is", async () => {
  await using world = await openWorld();
  using client = await world.dial("web");
  assert.equal(await client.ask("hello"), "hello");
  assert.equal(world.web.text, "hello");
});

Deno.test("a relay that answers the session itself gets no flow, whatever identity it shows", async () => {
  await using elsewhere = await Network.create();
  await using world = await openWorld();
  const shown = await Promise.all([
    world.network.issue("relay", "relay-1"),
    world.network.issue("connector", "connector-3"),
    world.network.issue("agent", "bob"),
    // The right name from a CA of the same name that is not the network's.
    elsewhere.issue("connector", "connector-1"),
  ].map(async (path) => await loadIdentity(await path)));
  for (const identity of shown) {
    const sessions: Promise<unknown>[] = [];
    world.rogue.behaviour.session = (channel) => {
      const session = acceptSession({ channel, identity, roots: [world.network.root] });
      sessions.push(session);
      return session;
    };
    assert.equal(await proxyStatus(world.agent.httpProxy, "web"), 502, identity.id.uri);
    assert.equal(sessions.length, 1, "the agent did try");
    await Promise.allSettled(sessions);
  }
  world.assertUntouched();
});

Deno.test("a relay that leads to another connector is refused: session, flow or both, lied about or not", async () => {
  await using world = await openWorld();
  const { rogue } = world;
  const lures: Record<string, RogueBehaviour> = {
    "session and flow, under the right name": { lead: () => rogue.link("connector-2") },
    "the session alone": { lead: (link, { kind }) => kind === "session" ? rogue.link("connector-2") : link },
    "the flow alone": { lead: (link, { kind }) => kind === "flow" ? rogue.link("connector-2") : link },
    "both, under its own name": {
      lead: () => rogue.link("connector-2"),
      name: () => rogue.link("connector-2"),
    },
    "a name that is no identity": { name: () => ({ uri: "spiffe://nobody", instance: "x" }) },
    "a right name, but no such process": {
      name: ({ uri }) => ({ uri, instance: crypto.randomUUID() }),
      lead: () => rogue.link("connector-2"),
    },
  };
  for (const [what, lure] of Object.entries(lures)) {
    Object.assign(rogue.behaviour, { lead: undefined, name: undefined }, lure);
    assert.equal(await proxyStatus(world.agent.httpProxy, "web"), 502, what);
  }
  world.assertUntouched();
});

Deno.test("a relay that redirects a flow to another service or port of the same connector is refused", async () => {
  await using world = await openWorld();
  const redirects: Record<string, RogueBehaviour["header"]> = {
    "another service": (header) => header.kind === "flow" ? { ...header, service: "admin" } : header,
    "another port": (header) => header.kind === "flow" ? { ...header, port: 22 } : header,
  };
  for (const [what, header] of Object.entries(redirects)) {
    Object.assign(world.rogue.behaviour, { header });
    const answer = await askProxy(world.agent.httpProxy, "web");
    assert.equal(answer.status, 502, what);
    assert.match(answer.text, /redirected/, what);
  }
  world.assertUntouched();
});

Deno.test("a relay that claims another caller is refused, for sealed flows and for plain ones", async () => {
  await using world = await openWorld();
  const { rogue, network } = world;
  // Mallory is a member without rights, and her agent enforces nothing: she speaks for herself.
  const mallory = await loadIdentity(await network.issue("agent", "mallory"));
  await using caller = new RelayCaller(rogue, network.root);
  const connection = await caller.admitted(mallory);
  for (const claimed of [mallory.id.uri, ALICE]) {
    rogue.behaviour.header = (header) => ({ ...header, caller: claimed });
    const { body } = await connection.session("connector-1", rogue.link("connector-1").instance);
    await using session = await openSession({
      channel: body,
      identity: mallory,
      roots: [network.root],
      expectPeer: spiffeId("connector", "connector-1"),
    });
    const flow = await connection.flow("web");
    assert.equal(flow.status, 200, "the rogue hands everything on");
    await assert.rejects(
      openFlow({ channel: flow.body, session, header: { service: "web", protocol: "tcp", port: 443 } }),
      (error: Error & { reason?: string }) => error.reason === (claimed === ALICE ? "redirected" : "denied"),
      claimed,
    );
    // Nor can the rogue, who needs nobody's key for it, offer the connector an unsealed flow.
    rogue.statuses.length = 0;
    assert.equal((await connection.flow("web", { form: "capsules" })).status, 502);
    assert.deepEqual(rogue.statuses, [403]);
  }
  world.assertUntouched();
});

Deno.test("a relay that exchanges the streams of two flows, or repeats records, breaks them and injects nothing", async () => {
  for (const attack of ["exchange", "repeat", "drop"] as const) {
    await using world = await openWorld();
    const switches = new Switchboard(attack);
    world.rogue.behaviour.carry = (flow) => switches.carry(flow);
    using first = await world.dial("web");
    using second = await world.dial("web");
    assert.equal(await first.ask("first-before"), "first-before");
    assert.equal(await second.ask("second-before"), "second-before");
    switches.attacks = true;
    await first.send("first-after");
    await second.send("second-after");
    // A lost record is only seen by the next one.
    await switches.struck;
    await first.send("first-last").catch(() => {});
    await eventually(() => world.web.connections[0]!.end !== "open");
    assert.equal(world.web.connections[0]!.end, "reset", attack);
    const [one = "", two = ""] = world.web.connections.map(({ bytes }) => utf8Decode(bytes));
    // What arrived is what was sent, up to the attack: nothing twice, nothing of the other flow, no gap.
    const whole = attack === "repeat" ? "first-beforefirst-afterfirst-last" : "first-before";
    assert.ok(whole.startsWith(one), `${attack}: ${one}`);
    assert.ok("second-beforesecond-after".startsWith(two), `${attack}: ${two}`);
    await assert.rejects(first.readToEnd(), Deno.errors.ConnectionReset, attack);
  }
});

Deno.test("a relay that ends a flow in the middle makes a reset of it at both ends, never an end", async () => {
  for (const direction of ["toAgent", "toConnector"] as const) {
    await using world = await openWorld();
    const cut = Promise.withResolvers<void>();
    world.rogue.behaviour.carry = async ({ agent, connector }) => {
      const [from, to] = direction === "toAgent" ? [connector, agent] : [agent, connector];
      const other = pump(to, from);
      const ended = await Promise.race([pump(from, to), cut.promise]);
      // The stream's own clean end, as if the sender had finished.
      if (ended === undefined) await to.closeWrite();
      await other;
    };
    using client = await world.dial("web");
    assert.equal(await client.ask("half of it"), "half of it");
    cut.resolve();
    await assert.rejects(client.readToEnd(), Deno.errors.ConnectionReset, direction);
    await eventually(() => world.web.connections[0]!.end !== "open");
    assert.equal(world.web.connections[0]!.end, "reset", direction);
  }
});

Deno.test("a relay that hangs streams on a connector by the hundred stops neither it nor its honest relay", async () => {
  await using network = await Network.create();
  using web = new RecordingUpstream();
  const authority = await loadAuthority(`${network.folder}/ca/authority.key`);
  await using rogue = await RogueRelay.start(network, { views: await signedViews(authority) }, {
    name: "relay-2",
  });
  const honest = await network.relay();
  await network.connector({
    relays: [honest, rogue],
    services: { web: web.url },
    config: { carrier: "quic" },
  });
  // 600 streams that begin a header and never end it, and 100 that are full of nonsense.
  const streams = await Promise.all(Array.from({ length: 700 }, () => rogue.openStream("connector-1")));
  await Promise.all(streams.map((stream, i) => stream.write(i < 600 ? Uint8Array.of(0x40) : GARBAGE)));
  const agent = await network.agent({ relays: [honest], forwards: ["web"], config: { carrier: "quic" } });
  using client = await LocalClient.connect(agent.forward("web"));
  assert.equal(await client.ask("through the honest one"), "through the honest one");
});

const GARBAGE = new Uint8Array(4_096).fill(0xff);

/** Carries flows honestly until it attacks the direction towards the connector. */
class Switchboard {
  attacks = false;
  /** Resolves when the first flow has been attacked. */
  readonly struck: Promise<void>;
  readonly #attack: "exchange" | "repeat" | "drop";
  readonly #flows: RogueFlow[] = [];
  #strike!: () => void;
  #dropped = false;

  constructor(attack: "exchange" | "repeat" | "drop") {
    this.#attack = attack;
    this.struck = new Promise((resolve) => this.#strike = resolve);
  }

  async carry(flow: RogueFlow): Promise<void> {
    this.#flows.push(flow);
    const back = pump(flow.connector, flow.agent);
    try {
      for (let bytes = await flow.agent.read(); bytes !== null; bytes = await flow.agent.read()) {
        for (const { to, copy } of this.#route(flow, bytes.slice())) await to.write(copy);
      }
      await flow.connector.closeWrite();
    } catch (error) {
      flow.connector.abort(error);
    }
    await back;
  }

  #route(flow: RogueFlow, copy: Uint8Array): { readonly to: ByteChannel; readonly copy: Uint8Array }[] {
    const straight = { to: flow.connector, copy };
    if (!this.attacks) return [straight];
    const isFirst = flow === this.#flows[0];
    if (isFirst) this.#strike();
    switch (this.#attack) {
      case "exchange":
        return [{ to: this.#flows[isFirst ? 1 : 0]!.connector, copy }];
      case "repeat":
        return isFirst ? [straight, { to: flow.connector, copy: copy.slice() }] : [straight];
      case "drop":
        if (!isFirst || this.#dropped) return [straight];
        this.#dropped = true;
        return [];
    }
  }
}

/** Copies one direction to its end; a break breaks the other side. */
async function pump(from: ByteChannel, to: ByteChannel): Promise<"ended"> {
  try {
    for (let bytes = await from.read(); bytes !== null; bytes = await from.read()) {
      await to.write(bytes.slice());
    }
    await to.closeWrite();
  } catch (error) {
    from.abort(error);
    to.abort(error);
  }
  return "ended";
}

/** A network whose only relay is rogue: Alice's agent, two connectors and three services. */
interface World extends AsyncDisposable {
  readonly network: Network;
  readonly rogue: RogueRelay;
  readonly agent: AgentNode;
  readonly web: RecordingUpstream;
  /** Opens a flow through the forward. */
  dial(service: string): Promise<LocalClient>;
  /** No service was reached. */
  assertUntouched(): void;
}

async function openWorld(behaviour: RogueBehaviour = {}): Promise<World> {
  const stack = new AsyncDisposableStack();
  const network = stack.use(await Network.create());
  const authority = await loadAuthority(`${network.folder}/ca/authority.key`);
  const views = await signedViews(authority);
  const rogue = stack.use(await RogueRelay.start(network, { views, ...behaviour }));
  const upstreams = [0, 1, 2].map(() => stack.use(new RecordingUpstream()));
  const [web, admin, other] = upstreams.map(({ url }) => url);
  const config = { carrier: "quic" };
  await network.connector({ relays: [rogue], services: { web: web!, admin: admin! }, config });
  // The second connector would serve `web` as well, if anybody let it.
  await network.connector({
    name: "connector-2",
    relays: [rogue],
    services: { other: other!, web: other! },
    config,
  });
  rogue.link("connector-2").services.delete("web");
  const agent = await network.agent({ relays: [rogue], forwards: ["web"], config });
  await agent.waitForLine(/"view_accepted"/);
  return {
    network,
    rogue,
    agent,
    web: upstreams[0]!,
    dial: (service) => LocalClient.connect(agent.forward(service)),
    assertUntouched: () =>
      assert.deepEqual(upstreams.map(({ connections }) => connections.length), [0, 0, 0]),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

async function signedViews(authority: Authority): Promise<(who: string) => readonly string[]> {
  const views = new Map<string, string>();
  for (const rights of RIGHTS) {
    views.set(rights.who, await signView({ authority, view: viewOf(rights) }));
  }
  return (who) => [views.get(who)].filter((jws) => jws !== undefined);
}
