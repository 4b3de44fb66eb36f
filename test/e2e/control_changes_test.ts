/**
 * What an administrator changes is in force at all of three relays within a second of the API's answer: rights that
 * are given, and each way to lose them, for callers and for connectors, on both carriers.
 */

import assert from "node:assert/strict";
import { enrolDevice } from "../../src/modes/enrol/enrol_device.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { ControllerGround, type Enrolled, type EnrolOptions } from "../support/controller_ground.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { askName, connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import type { AgentNode, RelayNode } from "../support/network.ts";
import { within } from "../support/within.ts";
import { type CallerConnection, RelayCaller } from "../support/relay_caller.ts";

/** Milliseconds after the API's answer in which a change is in force everywhere. */
const LIMIT_MS = 1_000;

/** How the agents at each relay carry their flows. */
const CARRIERS = ["quic", "tls", "auto"];

/** Ways to lose a right, or everything; and what relays answer to the key from then on. */
const LOSSES = {
  "unpolicied": { what: "that loses its policy", answer: 200 },
  "disabled": { what: "that is disabled", answer: 401 },
  "deleted": { what: "that is deleted", answer: 401 },
  "reset": { what: "that has to enrol anew", answer: 401 },
} as const;

type Loss = keyof typeof LOSSES;

Deno.test("what the API answers is in force at three relays within 1 s, on flows by QUIC and by TLS", async (t) => {
  await using ground = await Ground.create();
  const { control, relays, web } = ground;
  const bystanders = await flowsOf(ground.alice, "web");

  const newcomer = await ground.caller("unpolicied");
  await t.step("a new policy lets dials through", async () => {
    for (const agent of newcomer.agents) await assert.rejects(askName(agent.forward("web")), RESET);
    await ground.grant("Dial", "caller-unpolicied", "web");
    await within(
      LIMIT_MS,
      () =>
        Promise.all(newcomer.agents.map((agent) => eventually(() => askName(agent.forward("web")), POLL))),
    );
  });

  await t.step("a session that an administrator ends is over, with its flows", async () => {
    const flows = await flowsOf(newcomer.agents, "web");
    const sessions = await ground.sessionsOf(newcomer.identity);
    // A client of another make may keep what it carries apart from what says that it is here.
    await using aside = await ground.callerOf(newcomer.identity, relays[0]!);
    assert.equal((await aside.connection.flow("web", { proof: await aside.proof() })).status, 200);
    for (const id of sessions.keys()) {
      assert.equal((await control.api("DELETE", `/sessions/${encodeURIComponent(id)}`)).status, 204);
    }
    await ground.inTime(() => Promise.all([...flows.map(untilReset), aside.connection.carrier.closed]));
    // The right is still there: who it was comes back, in a session of its own.
    for (const agent of newcomer.agents) await eventually(() => askName(agent.forward("web")));
    await eventually(async () => {
      const now = await ground.sessionsOf(newcomer.identity);
      return [...now.keys()].every((id) => !sessions.has(id));
    });
  });

  for (const [loss, { what, answer }] of Object.entries(LOSSES) as [Loss, typeof LOSSES[Loss]][]) {
    await t.step(`a caller ${what} is cut off, and stays so with its key`, async () => {
      const { identity, agents } = loss === "unpolicied" ? newcomer : await ground.caller(loss);
      if (loss !== "unpolicied") await ground.grant("Dial", `caller-${loss}`, "web");
      const flows = await flowsOf(agents, "web");
      // Connections that nobody but the relay would end.
      await using idle = await ground.admittedCallers(identity);
      const before = web.accepted;
      await ground.lose(loss, identity);
      const ended = answer === 401 ? idle.connections.map(({ carrier }) => carrier.closed) : [];
      await ground.inTime(() => Promise.all([...flows.map(untilReset), ...ended]));
      for (const agent of agents) await assert.rejects(askName(agent.forward("web")), RESET);
      assert.deepEqual(await ground.answersTo(identity), relays.map(() => answer));
      assert.equal(web.accepted, before);
      for (const agent of agents) await agent.stop();
    });

    await t.step(`a connector ${what} loses its flows and its services`, async () => {
      const service = `service-${loss}`;
      const { identity, upstream, connectors } = await ground.connector(loss);
      // At each relay one to the connector that takes them by QUIC, and one to the other.
      const flows = [...await flowsOf(ground.alice, service), ...await flowsOf(ground.alice, service)];
      const before = upstream.accepted;
      await ground.lose(loss, identity);
      await within(
        LIMIT_MS,
        () =>
          Promise.all([
            ...flows.map(untilReset),
            ...relays.map((relay) => ground.untilUnbound(relay, service)),
          ]),
      );
      for (const agent of ground.alice) await assert.rejects(askName(agent.forward(service)), RESET);
      assert.deepEqual(await ground.answersTo(identity), relays.map(() => answer));
      assert.equal(upstream.accepted, before);
      for (const connector of connectors) await connector.stop();
    });
  }

  await t.step(
    "who is enabled, made or enrolled again is back with a new key, never with the old",
    async () => {
      const { disabled, deleted, reset } = ground.lost;
      assert.equal((await control.api("POST", `/identities/${disabled!.id}/enable`)).status, 200);
      const remade = await control.make("/identities", { name: "caller-deleted", type: "agent" });
      for (
        const [old, id] of [[disabled!, disabled!.id], [deleted!, remade.id], [reset!, reset!.id]] as const
      ) {
        const anew = await ground.enrolAgain(old, id);
        await eventually(async () => (await ground.answersTo(anew)).every((status) => status === 200));
        assert.deepEqual(await ground.answersTo(old), relays.map(() => 401));
      }
    },
  );

  await t.step("nobody else noticed", async () => {
    const before = web.received;
    for (const conn of bystanders) await conn.write(new Uint8Array(10));
    await eventually(() => web.received === before + 10 * bystanders.length);
    for (const conn of bystanders) conn.close();
  });
});

/** Three relays that follow one controller, a connector for `web` at all of them, and `alice`, who may do everything. */
class Ground implements AsyncDisposable {
  readonly control: ControllerGround;
  readonly relays: RelayNode[] = [];
  readonly web = new NamedUpstream("web");
  /** One agent at each relay. */
  alice!: readonly AgentNode[];
  /** The callers that lost something. */
  readonly lost: Partial<Record<Loss, Enrolled>> = {};
  readonly #stack = new AsyncDisposableStack();
  readonly #policies = new Map<string, string>();
  #asking!: ReadonlyMap<RelayNode, CallerConnection>;

  static async create(): Promise<Ground> {
    const ground = new Ground(await ControllerGround.create());
    try {
      await ground.#start();
    } catch (error) {
      await ground[Symbol.asyncDispose]();
      throw error;
    }
    return ground;
  }

  private constructor(control: ControllerGround) {
    this.control = this.#stack.use(control);
    this.#stack.use(this.web);
  }

  /** An identity with an agent at each relay, which as yet may do nothing. */
  async caller(loss: Loss): Promise<{ readonly identity: Enrolled; readonly agents: readonly AgentNode[] }> {
    const identity = await this.#enrol("agent", `caller-${loss}`);
    this.lost[loss] = identity;
    return { identity, agents: await this.#agents(identity, ["web"]) };
  }

  /** Two connectors of one identity, by QUIC and by TLS, with a service of their own that is bound at each relay. */
  async connector(loss: Loss) {
    const identity = await this.#enrol("connector", `site-${loss}`);
    const upstream = this.#stack.use(new NamedUpstream(loss));
    const service = `service-${loss}`;
    await this.grant("Bind", `site-${loss}`, service);
    const connectors = await Promise.all(["quic", "tls"].map((carrier) =>
      this.control.connector({
        name: `site-${loss}-${carrier}`,
        identity,
        services: { [service]: upstream.upstream },
        config: { carrier },
      })
    ));
    return { identity, upstream, connectors };
  }

  /** Gives one identity one right by a policy of its own. */
  async grant(type: "Dial" | "Bind", identity: string, service: string): Promise<void> {
    const { id } = await this.control.make("/service-policies", {
      name: `${type} ${identity}`,
      type,
      semantic: "AnyOf",
      identityRoles: [`@${identity}`],
      serviceRoles: [`@${service}`],
    });
    this.#policies.set(identity, id);
  }

  async lose(loss: Loss, { id, spiffeId }: Enrolled): Promise<void> {
    const policy = this.#policies.get(spiffeId.slice(spiffeId.lastIndexOf("/") + 1));
    const { status } = loss === "unpolicied"
      ? await this.control.api("DELETE", `/service-policies/${policy}`)
      : loss === "deleted"
      ? await this.control.api("DELETE", `/identities/${id}`)
      : await this.control.api("POST", `/identities/${id}/${loss === "reset" ? "reset" : "disable"}`);
    assert.ok(status === 200 || status === 204, `${loss}: ${status}`);
  }

  /** What each relay answers to a proof by the key in an identity's file. */
  answersTo(identity: Enrolled): Promise<readonly number[]> {
    return Promise.all(this.relays.map(async (relay) => {
      await using caller = await this.callerOf(identity, relay);
      return (await caller.connection.view(await caller.proof())).status;
    }));
  }

  /** A connection to a relay of somebody who can prove an identity, and has not yet. */
  async callerOf({ path }: Enrolled, relay: RelayNode) {
    const identity = await loadIdentity(path);
    const caller = new RelayCaller(relay, identity.trust.roots[0]!);
    const connection = await caller.dial();
    const proof = () => caller.proof(identity);
    return { connection, proof, [Symbol.asyncDispose]: () => caller[Symbol.asyncDispose]() };
  }

  /** A connection to each relay on which an identity was proved. */
  async admittedCallers(identity: Enrolled) {
    const stack = new AsyncDisposableStack();
    const callers = await Promise.all(this.relays.map((relay) => this.callerOf(identity, relay)));
    for (const caller of callers) {
      stack.use(caller);
      assert.equal((await caller.connection.view(await caller.proof())).status, 200);
    }
    const connections = callers.map(({ connection }) => connection);
    return { connections, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  }

  /** Resolves when a relay knows no connector of a service any more. */
  async untilUnbound(relay: RelayNode, service: string): Promise<void> {
    await eventually(async () => {
      const { status, body } = await this.#asking.get(relay)!.flow(service);
      body.abort();
      return status === 503;
    }, POLL);
  }

  /** The open sessions of an identity, one at each relay, by their ids. */
  async sessionsOf({ spiffeId }: Enrolled): Promise<ReadonlyMap<string, string>> {
    return await eventually(async () => {
      const { json } = await this.control.api(
        "GET",
        `/sessions?open=true&identity=${encodeURIComponent(spiffeId)}`,
      );
      const { data } = json as { data: readonly { id: string; relay: string }[] };
      const sessions = new Map(data.map(({ id, relay }) => [id, relay]));
      return new Set(sessions.values()).size === this.relays.length && sessions;
    });
  }

  /** A new key for an identity. */
  async enrolAgain({ spiffeId }: Enrolled, id: string): Promise<Enrolled> {
    const { token } = await this.control.make(`/identities/${id}/enrolments`, {});
    const path = `${this.control.folder}/${id}.again.json`;
    await enrolDevice({ token: String(token), path });
    return { id, spiffeId, path };
  }

  /** Waits for what follows from the API's answer that has just come. */
  async inTime(consequence: () => Promise<unknown>): Promise<void> {
    await within(LIMIT_MS, consequence, { processes: [this.control.controllers[0]!.process.pid] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #start(): Promise<void> {
    const { control, relays, web } = this;
    const services = ["web", ...Object.keys(LOSSES).map((loss) => `service-${loss}`)];
    for (const name of services) await control.make("/services", { name });
    for (let n = 1; n <= 3; n++) {
      const name = `relay-${n}`, port = freePort();
      const identity = await this.#enrol("relay", name, { address: `127.0.0.1:${port}` });
      relays.push(await control.relay({ name, port, identity }));
    }
    await this.grant("Bind", "site", "web");
    await control.make("/service-policies", {
      name: "alice",
      type: "Dial",
      semantic: "AnyOf",
      identityRoles: ["@alice"],
      serviceRoles: ["#all"],
    });
    await control.connector({
      name: "site",
      identity: await this.#enrol("connector", "site"),
      services: { web: web.upstream },
    });
    const alice = await this.#enrol("agent", "alice");
    this.alice = await this.#agents(alice, services);
    const identity = await loadIdentity(alice.path);
    this.#asking = new Map(
      await Promise.all(relays.map(async (relay) => {
        const caller = this.#stack.use(new RelayCaller(relay, identity.trust.roots[0]!));
        return [relay, await caller.admitted(identity)] as const;
      })),
    );
  }

  /** Enrols as a device would, in this process. */
  async #enrol(
    kind: "relay" | "connector" | "agent",
    name: string,
    options: EnrolOptions = {},
  ): Promise<Enrolled> {
    const { id, spiffeId, token } = await this.control.invite(kind, name, options);
    const path = `${this.control.folder}/${name}.key.json`;
    await enrolDevice({ token, path });
    return { id, spiffeId, path };
  }

  #agents(identity: Enrolled, forwards: readonly string[]): Promise<readonly AgentNode[]> {
    const name = identity.spiffeId.slice(identity.spiffeId.lastIndexOf("/") + 1);
    return Promise.all(this.relays.map((relay, index) =>
      this.control.agent({
        name: `${name}-at-${relay.name}`,
        identity,
        forwards,
        relays: [relay],
        config: { carrier: CARRIERS[index] },
      })
    ));
  }
}

/** Attempts cost more than looks. */
const POLL = { interval: 50 };

const RESET = Deno.errors.ConnectionReset;

/** Opens a flow by each of the agents. */
async function flowsOf(agents: readonly AgentNode[], service: string): Promise<readonly Deno.TcpConn[]> {
  return await Promise.all(agents.map(async (agent) => {
    // A right that was just given is on its way to the agent.
    const { conn } = await eventually(() => connectNamed(agent.forward(service)), POLL);
    return conn;
  }));
}

async function untilReset(conn: Deno.TcpConn): Promise<void> {
  await assert.rejects(conn.read(new Uint8Array(1)), RESET);
  conn.close();
}
