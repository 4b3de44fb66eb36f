/**
 * The only controller is killed, stays away, and comes back: what runs goes on, who is known comes and goes, what needs
 * a controller says so, and nothing that happened meanwhile is lost.
 */

import assert from "node:assert/strict";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { ControllerGround, type Enrolled } from "../support/controller_ground.ts";
import { PROGRAM } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { askName, connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import { type AgentNode, localPorts, readAudit, type RelayNode } from "../support/network.ts";
import { runCommand } from "../support/processes.ts";
import { RelayCaller } from "../support/relay_caller.ts";
import { OPEN_EGRESS } from "../support/tunnel_ground.ts";
import { needsRoot, needsTun, testNeeding } from "../support/require_tool.ts";

const SERVICES = ["web", "secret"];

const RESET = Deno.errors.ConnectionReset;

/** Name of the interface that the relay with tunnels makes. */
const INTERFACE = `gnl${Deno.pid}`;

/** A pool that is nobody's: of the addresses for measurements. */
const POOL = "198.18.231.0/28";

Deno.test("a network whose controller is killed goes on, and catches up by itself when it is back", async (t) => {
  await using ground = await Ground.create();
  const { control, near, far, upstream } = ground;
  let alice: AgentNode = await control.agent({ name: "alice", forwards: SERVICES, relays: [near] });
  const bob = await control.agent({ name: "bob", forwards: SERVICES, relays: [far] });
  const flows = await Promise.all([alice, bob].map((agent) => flowOf(agent)));
  const newcomer = await control.invite("agent", "newcomer");
  await writeSecretFile(`${control.folder}/token`, newcomer.token);
  const enrol = [...PROGRAM, "enroll", "--token-file", `${control.folder}/token`, "-o"];
  await eventually(async () => assertTold(await ground.told(), await ground.recorded()) === undefined);

  await control.controllers[0]!.kill();

  await t.step("relays say that they are degraded, and how old their knowledge is", async () => {
    for (const relay of [near, far]) await untilDegraded(relay);
  });

  await t.step("live flows go on, new ones begin, and what was forbidden still is", async () => {
    for (const conn of flows) await passes(conn, upstream);
    for (const agent of [alice, bob]) {
      assert.equal(await askName(agent.forward("web")), "web");
      await assert.rejects(askName(agent.forward("secret")), RESET);
    }
  });

  await t.step("an agent that is known comes back", async () => {
    await alice.stop();
    alice = await again(control, "alice");
    assert.equal(await eventually(() => askName(alice.forward("web"))), "web");
    flows[0] = await flowOf(alice);
  });

  await t.step("a relay that is killed starts with what it knew, and is found again", async () => {
    await eventually(async () => isWithin(await ground.recorded([far]), await ground.spooled(far)));
    await far.process!.stop({ signal: "SIGKILL" });
    const { node, process } = await control.startAgain("far", { separate: true });
    const [, address] = await node.waitForLine(/"health_listening","address":"([^"]+)"/);
    await node.waitForLine(/"relay_started"/);
    ground.far = { ...far, health: `http://${address}`, process };
    await untilDegraded(ground.far);
    assert.equal(
      await eventually(() => askName(bob.forward("web")), { timeout: 15_000, interval: 100 }),
      "web",
    );
    flows[1] = await flowOf(bob);
  });

  await t.step("enrolment fails, says why and what to do, and uses nothing up", async () => {
    const path = `${control.folder}/newcomer.json`;
    const fault = await runCommand([...enrol, path]).then(() => "", String);
    assert.match(fault, /exited with 1: .*Cannot reach a controller: .*ECONNREFUSED|refused/s);
    assert.match(fault, /Check that a controller runs/);
    await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
  });

  await control.controllers[0]!.start();

  await t.step("a change made as soon as it is back arrives, and ends what lost its right", async () => {
    const cut = Promise.all(flows.map(untilReset));
    assert.equal(
      (await control.api("DELETE", `/service-policies/${ground.policies.get("Dial")}`)).status,
      204,
    );
    await cut;
    for (const agent of [alice, bob]) await assert.rejects(askName(agent.forward("web")), RESET);
  });

  await t.step("relays are ready again, and whoever waited enrols", async () => {
    for (const relay of [near, ground.far]) {
      await eventually(async () => (await ready(relay)).status === "ready");
    }
    await runCommand([...enrol, `${control.folder}/newcomer.json`]);
  });

  await t.step("all that relays saw meanwhile stands in the log, each thing once", async () => {
    await eventually(async () => assertTold(await ground.told(), await ground.recorded()) === undefined);
    // Nothing comes twice later on.
    await control.api("GET", "/relays");
    assertTold(await ground.told(), await ground.recorded());
    const config = `${control.folder}/controller-1.config.json`;
    await runCommand([...PROGRAM, "audit", "verify", "--config", config]);
  });
});

testNeeding(
  [needsRoot(), needsTun()],
  "without its controller a relay gives known clients their IP addresses, and new ones 503",
  async () => {
    await using control = await ControllerGround.create({ config: { tunnel: { ipv4: POOL, ipv6: null } } });
    const policy = await control.make("/policies", { name: "open", document: OPEN_EGRESS });
    const activated = await control.api("POST", `/policies/${policy.id}/activate`);
    assert.equal(activated.status, 200, JSON.stringify(activated.json));
    const tunnel = { interface: INTERFACE, nat: "none" };
    const relay = await control.relay({ separate: true, config: { tunnel } });
    const known = await control.enrol("agent", "known");
    const fresh = await control.enrol("agent", "fresh");
    await eventually(async () => await askTunnel(relay, known) === 200);

    await control.controllers[0]!.kill();
    await untilDegraded(relay);
    assert.equal(await askTunnel(relay, known), 200);
    assert.equal(await askTunnel(relay, fresh), 503);

    await control.controllers[0]!.start();
    await eventually(async () => await askTunnel(relay, fresh) === 200);
  },
);

/** One controller, one relay in this process and one that can be killed, and a connector at both. */
class Ground implements AsyncDisposable {
  readonly control: ControllerGround;
  readonly upstream = new NamedUpstream("web");
  near!: RelayNode;
  far!: RelayNode;
  /** Ids of the policies by their type. */
  readonly policies = new Map<string, string>();

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
    this.control = control;
  }

  /** What the relays' own logs say, a text for each fact. */
  async recorded(relays = [this.near, this.far]): Promise<readonly string[]> {
    const facts: string[] = [];
    for (const { name } of relays) {
      for (const line of await readAudit(`${this.control.folder}/${name}.audit.jsonl`)) {
        const { event, who, service, outcome, flow } = line;
        facts.push(
          factText({ relay: name, time: Date.parse(line.time), event, who, service, outcome, flow }),
        );
      }
    }
    return facts.sort();
  }

  /** What waits in a relay's data folder to be reported, or was. */
  async spooled({ name }: RelayNode): Promise<readonly string[]> {
    const folder = `${this.control.folder}/${name}.data/audit`;
    const facts: string[] = [];
    for (const { name: file } of Deno.readDirSync(folder)) {
      if (!file.endsWith(".jsonl")) continue;
      const lines = (await Deno.readTextFile(`${folder}/${file}`)).split("\n").slice(0, -1);
      facts.push(...lines.map((line) => entryText(JSON.parse(line))));
    }
    return facts;
  }

  /** What the controller's log says of what relays saw. */
  async told(): Promise<readonly string[]> {
    const { json } = await this.control.api("GET", "/audit?limit=500");
    const { data } = json as { data: readonly Entry[] };
    assert.ok(data.length < 500);
    return data.filter(({ event }) => ["connect", "deny", "close"].includes(event)).map(entryText).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.control[Symbol.asyncDispose]();
    this.upstream[Symbol.dispose]();
  }

  async #start(): Promise<void> {
    const { control, policies, upstream } = this;
    for (const name of SERVICES) await control.make("/services", { name });
    for (const type of ["Dial", "Bind"]) {
      const roles = { identityRoles: ["#all"], serviceRoles: ["@web"] };
      const { id } = await control.make("/service-policies", {
        name: type,
        type,
        semantic: "AnyOf",
        ...roles,
      });
      policies.set(type, id);
    }
    this.near = await control.relay({ name: "near" });
    this.far = await control.relay({ name: "far", separate: true });
    await control.connector({ services: { web: upstream.upstream } });
  }
}

/** An audit entry of the controller, or one on its way there. */
interface Entry {
  readonly time: number;
  readonly event: string;
  readonly who: string;
  readonly target: string;
  readonly outcome: string;
  readonly source: string;
  readonly detail: { readonly flow?: string };
}

function entryText({ target: service, source, detail: { flow }, ...fact }: Entry): string {
  return factText({ ...fact, service, flow, relay: source.slice(source.lastIndexOf("/") + 1) });
}

function factText(
  { relay, time, event, who, service, outcome, flow = "" }:
    & { readonly relay: string; readonly time: number; readonly event: string; readonly who: string }
    & { readonly service: string; readonly outcome: string; readonly flow?: string | undefined },
): string {
  return [new Date(time).toISOString(), relay, event, who, service, outcome, flow].join(" ");
}

/** Asserts that nothing is missing and nothing there twice. */
function assertTold(told: readonly string[], recorded: readonly string[]): void {
  assert.deepEqual(told, recorded);
}

function isWithin(some: readonly string[], all: readonly string[]): boolean {
  return some.every((fact) => all.includes(fact));
}

/** Starts an agent again that was stopped. */
async function again(control: ControllerGround, name: string): Promise<AgentNode> {
  const { node, process } = await control.startAgain(name);
  return Object.assign(node, { process, ...await localPorts(node, SERVICES) });
}

async function flowOf(agent: AgentNode): Promise<Deno.TcpConn> {
  return (await eventually(() => connectNamed(agent.forward("web")))).conn;
}

async function passes(conn: Deno.TcpConn, upstream: NamedUpstream): Promise<void> {
  const before = upstream.received;
  await conn.write(new Uint8Array(10));
  await eventually(() => upstream.received === before + 10);
}

async function untilReset(conn: Deno.TcpConn): Promise<void> {
  await assert.rejects(conn.read(new Uint8Array(1)), RESET);
  conn.close();
}

async function ready({ health }: RelayNode): Promise<{ status: string; degraded: readonly string[] }> {
  return await (await fetch(`${health}/ready`)).json();
}

async function untilDegraded(relay: RelayNode): Promise<void> {
  const { degraded } = await eventually(async () => {
    const answer = await ready(relay);
    return answer.status === "degraded" && answer;
  });
  assert.match(degraded[0]!, /^no controller reached, what is known is \d+ s old$/);
}

/** The status with which a relay answers an agent that wants an IP tunnel. */
async function askTunnel(relay: RelayNode, { path }: Enrolled): Promise<number> {
  const identity = await loadIdentity(path);
  await using caller = new RelayCaller(relay, identity.trust.roots[0]!);
  const connection = await caller.admitted(identity);
  const { status } = await connection.request({
    method: "CONNECT",
    protocol: "connect-ip",
    scheme: "https",
    path: "/.well-known/masque/ip/*/*/",
    headers: [["capsule-protocol", "?1"]],
  });
  return status;
}
