/**
 * The network's CA is replaced while everything runs, by the three steps of `ginnel ca rotate`: flows go on through all of
 * them, whoever is part of the network takes the new CA by itself, and in the end the old one is worth nothing anywhere.
 */

import assert from "node:assert/strict";
import { caPaths, openCaDirectory } from "../../src/identity/ca_directory.ts";
import { verifyChain } from "../../src/identity/chain.ts";
import { makeCsr } from "../../src/identity/csr.ts";
import { type Identity, loadIdentity, parseIdentity } from "../../src/identity/identity_file.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { generateKeyPair } from "../../src/identity/key_pair.ts";
import type { CaBundle } from "../../src/identity/pki.ts";
import { createProof } from "../../src/identity/proof.ts";
import { ControllerHttp } from "../../src/io/controller/https_client.ts";
import { enrolDevice } from "../../src/modes/enrol/enrol_device.ts";
import { ControllerGround, type Enrolled } from "../support/controller_ground.ts";
import { PROGRAM } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { LongFlow } from "../support/long_flow.ts";
import type { AgentNode, RelayNode } from "../support/network.ts";
import type { NetworkNode } from "../support/network_node.ts";
import { runCommand } from "../support/processes.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { RelayCaller } from "../support/relay_caller.ts";

/** Milliseconds in which a step is everywhere: the controller looks at its CA every few seconds, nodes take turns. */
const TAKEN_MS = 20_000;

Deno.test("the CA is replaced under running flows, and what is left of the old one is refused everywhere", async (t) => {
  await using ground = await Ground.create();
  const { control, relay, nodes } = ground;
  const [former] = await control.roots() as [string];
  const formerCa = (await openCaDirectory(ground.directory)).ca;
  const flows = await ground.flows();
  const early = [await ground.invite("early-1"), await ground.invite("early-2")] as const;

  await t.step("stage: the next one is trusted, and nothing else is new", async () => {
    // Cut short: there is a key and no certificate.
    await Deno.mkdir(`${ground.directory}/next`, { mode: 0o700 });
    await Deno.writeTextFile(`${ground.directory}/next/ca.key`, "half a k", { mode: 0o600 });
    await ground.rotate("stage");
    await ground.untilTrusted(2);
    await ground.untilIssuedBy(former);
    await ground.enrol(early[0]);
    for (const flow of flows) await flow.goesOn();
  });

  const staged = [await ground.invite("staged-1"), await ground.invite("staged-2")] as const;
  const next = await Deno.readTextFile(`${ground.directory}/next/ca.crt`);

  await t.step("activate: everybody renews by the next one, and the former is trusted", async () => {
    // Cut short: the key has moved already. Who runs goes on with what there was.
    const { key } = caPaths(ground.directory);
    await Deno.copyFile(`${ground.directory}/next/ca.key`, key);
    await control.controllers[0]!.process.waitForLine(/"ca_not_reloaded"/);
    await ground.enrol(await ground.invite("between"));
    await ground.rotate("activate");
    await ground.untilIssuedBy(next);
    await ground.enrol(staged[0]);
    // A token from before the next CA was known cannot be sure of who is there: it says so, and is not used up.
    await assert.rejects(ground.enrol(early[1]), { code: "ERR_CONTROLLER_CA_MISMATCH" });
    const { json } = await control.api("GET", `/identities/${early[1].id}/enrolments`);
    assert.deepEqual((json as { data: { usedAt: string | null }[] }).data.map(({ usedAt }) => usedAt), [
      null,
    ]);
    assert.equal(await ground.answerTo(await ground.forge(formerCa, "agent", "spare")), 200);
    for (const flow of flows) await flow.goesOn();
  });

  await t.step("retire: relay, controller and nodes refuse the former one's certificates", async () => {
    const activated = await ground.invite("activated");
    const agent = await ground.forge(formerCa, "agent", "spare");
    const follower = await ground.forge(formerCa, "relay", "relay-spare");
    await using caller = new RelayCaller(relay, next);
    const connection = await caller.admitted(agent);
    using following = await ground.follow(follower);
    await ground.rotate("retire");
    // Whoever was in by one of them is out.
    await Promise.all([connection.carrier.closed, following.ended]);
    await ground.untilTrusted(1);
    assert.equal(await ground.answerTo(agent), 401);
    for (const identity of [agent, follower]) assert.equal(await ground.renew(identity), 401);
    for (const { path } of nodes) {
      const { trust: { roots } } = await loadIdentity(path);
      await assert.rejects(verifyChain({ chain: agent.chainDer, roots, now: Date.now() }));
    }
    for (const invited of [staged[1], activated]) await ground.enrol(invited);
    await assert.rejects(ground.enrol(early[1]), { code: "ERR_CONTROLLER_CA_MISMATCH" });
  });

  await t.step("flows and connections are those of the beginning, and others can be made", async () => {
    await ground.flowsAreWhole(flows);
    for (const { name, lines } of nodes) {
      const broken = /"(?:relay_lost|relay_unreachable|relay_renewal_refused|certificate_not_renewed)"/;
      assert.deepEqual(lines.filter((line) => broken.test(line)), [], name);
    }
    await ground.flowsAreWhole(await ground.flows());
    const late = await control.agent({ name: "late", forwards: ["web"] });
    await (await LongFlow.open(late.forward("web"))).finish();
  });
});

type RunningNode = NetworkNode & Enrolled;

type Invited = Awaited<ReturnType<ControllerGround["invite"]>>;

/** One relay that follows a controller, a connector, and an agent for each carrier. */
class Ground implements AsyncDisposable {
  readonly control: ControllerGround;
  relay!: RelayNode;
  /** All of them. */
  nodes!: readonly RunningNode[];
  readonly #stack = new AsyncDisposableStack();
  readonly #upstream = new RecordingUpstream();
  #agents!: readonly AgentNode[];

  static async create(): Promise<Ground> {
    // Nodes take turns over a twentieth of a life.
    const ground = new Ground(await ControllerGround.create({ config: { certificates: { node: "1m" } } }));
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
    this.#stack.use(this.#upstream);
  }

  /** Where the CA is. */
  get directory(): string {
    return `${this.control.controllers[0]!.data}/ca`;
  }

  /** Takes a step, as an administrator does. */
  async rotate(step: "stage" | "activate" | "retire"): Promise<void> {
    await runCommand([...PROGRAM, "ca", "rotate", step, "--dir", this.directory]);
  }

  /** A flow on each carrier. */
  flows(): Promise<readonly LongFlow[]> {
    return Promise.all(
      this.#agents.map(async (agent) => this.#stack.use(await LongFlow.open(agent.forward("web")))),
    );
  }

  /** Ends flows and looks at what the service was told. */
  async flowsAreWhole(flows: readonly LongFlow[]): Promise<void> {
    for (const flow of flows) await flow.finish();
    const { connections } = this.#upstream;
    await eventually(() => connections.every(({ end }) => end === "ended"));
    assert.deepEqual(
      connections.slice(-flows.length).map(({ bytes }) => bytes.length).toSorted(),
      flows.map(({ bytes }) => bytes).toSorted(),
    );
  }

  /** Waits until every node trusts so many CAs, and the controller tells of as many. */
  async untilTrusted(count: number): Promise<void> {
    await eventually(async () => {
      const { json } = await this.control.api("GET", "/network");
      const known = [(json as { roots: readonly string[] }).roots];
      for (const { path } of this.nodes) known.push((await loadIdentity(path)).trust.roots);
      return known.every(({ length }) => length === count);
    }, { timeout: TAKEN_MS, interval: 100 });
  }

  /** Waits until the certificates of all nodes, and the controller's, are by this CA. */
  async untilIssuedBy(root: string): Promise<void> {
    await eventually(async () => {
      for (const { path } of this.nodes) {
        const { chainDer } = await loadIdentity(path);
        await verifyChain({ chain: chainDer, roots: [root], now: Date.now() });
      }
      using http = this.#http([root]);
      return (await http.request({ method: "GET", path: "/ready" })).status === 200;
    }, { timeout: TAKEN_MS, interval: 100 });
  }

  /** Makes an identity and a token for it. */
  invite(name: string): Promise<Invited> {
    return this.control.invite("agent", name);
  }

  /** Enrols as a device does. */
  async enrol({ id, token, spiffeId }: Invited): Promise<void> {
    const { id: { uri } } = await enrolDevice({ token, path: `${this.control.folder}/${id}.json` });
    assert.equal(uri, spiffeId);
  }

  /** What somebody makes who has a CA's key. */
  async forge(ca: CaBundle, kind: "agent" | "relay", name: string): Promise<Identity> {
    const now = Date.now();
    const { authority } = await openCaDirectory(this.directory);
    const { text } = await issueIdentity(ca, { kind, name, now, days: 1, authorities: [authority] });
    return await parseIdentity(text, { source: "forged", now });
  }

  /** What the relay answers to a proof. */
  async answerTo(identity: Identity): Promise<number> {
    await using caller = new RelayCaller(this.relay, (await this.control.roots())[0]!);
    const connection = await caller.dial();
    return (await connection.view(await caller.proof(identity))).status;
  }

  /** What the controller answers to somebody who wants the next certificate. */
  async renew(identity: Identity): Promise<number> {
    using http = this.#http(await this.control.roots(), identity);
    const csr = await makeCsr(await generateKeyPair(), identity.id.uri);
    return (await http.request({ method: "POST", path: "/enrolment/v1/renew", json: { csr } })).status;
  }

  /** Follows the controller as a relay. */
  async follow(identity: Identity): Promise<Disposable & { readonly ended: Promise<void> }> {
    const http = this.#http(await this.control.roots(), identity);
    const ending = new AbortController();
    const { status, lines } = await http.lines({
      method: "GET",
      path: "/sync/v1/stream",
      signal: ending.signal,
    });
    assert.equal(status, 200);
    const iterator = lines[Symbol.asyncIterator]();
    assert.match((await iterator.next()).value, /snapshot/);
    const ended = (async () => {
      try {
        while ((await iterator.next()).done !== true);
      } catch {
        // However it ends.
      }
    })();
    return {
      ended,
      [Symbol.dispose]: () => {
        ending.abort();
        http[Symbol.dispose]();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #start(): Promise<void> {
    const { control } = this;
    await control.open(["web"]);
    const relay = await control.relay();
    const connector = await control.connector({ services: { web: this.#upstream.url } });
    const agents: (AgentNode & Enrolled)[] = [];
    for (const carrier of ["quic", "tls"]) {
      agents.push(await control.agent({ name: `alice-${carrier}`, forwards: ["web"], config: { carrier } }));
    }
    // Known to the network, and held by nobody but who forges them.
    for (const [name, type] of [["spare", "agent"], ["relay-spare", "relay"]]) {
      await control.make("/identities", { name, type });
    }
    this.relay = relay;
    this.nodes = [relay, connector, ...agents];
    this.#agents = agents;
  }

  #http(roots: readonly string[], identity?: Identity): ControllerHttp {
    const { name, url } = this.control.controllers[0]!;
    return new ControllerHttp({
      controllers: () => [{ name, url }],
      roots: () => roots,
      ...(identity !== undefined && {
        authorization: (audience) => createProof({ identity, audience, now: Date.now() }),
      }),
    });
  }
}
