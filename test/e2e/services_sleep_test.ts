/**
 * A laptop that sleeps for half a minute, and one that moves to another network: what was open goes on or is reset, and
 * what is new begins within two seconds.
 */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { type Asked, hosted, ServiceClients, startUpstream, type Ticks } from "../support/service_clients.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { within } from "../support/within.ts";

const NEEDS = [needsRoot(), needsTun(), needsTool("python3")];

/** How long the laptops sleep: longer than a connection may be idle. */
const SLEEP_SECONDS = "31";

/** Milliseconds in which an old flow goes on or is known to be dead. */
const RESET_MS = 10_000;

testNeeding(NEEDS, "services are there again when the machine wakes up or changes its network", async (t) => {
  await using ground = await ServiceGround.create();
  for (const name of ["stream", "datagrams"]) await ground.service({ name });
  await ground.allow("Dial");
  await ground.allow("Bind");
  await startUpstream(ground, "conn1");
  const services = [hosted("stream"), hosted("datagrams", "udp")];
  const connector = await ground.startConnector("conn1", { services });
  const laptops = await Promise.all(HOSTS.map((host) => Laptop.start(ground, host)));
  const [unplugged, suspended] = laptops as [Laptop, Laptop];
  const processes = [connector.pid, ground.controller.process.pid, ...laptops.map(({ agent }) => agent.pid)];
  const inTime = <T>(limit: number, work: () => Promise<T>) => within(limit, work, { processes });

  const newFlows = async ({ clients }: Laptop) => {
    const begin = async (ask: () => Promise<Asked>) => {
      const { by, error } = await inTime(2_000, ask);
      assert.equal(by, "conn1", error);
    };
    await Promise.all([begin(() => clients.tcp("stream")), begin(() => clients.udp("datagrams"))]);
  };
  const oldFlows = async ({ idle, datagrams, stream }: Laptop) => {
    const { number } = datagrams.last;
    const { number: streamed } = stream.last;
    await Promise.all([
      // Whether it works or is reset: the program is told.
      inTime(RESET_MS, idle.speak),
      inTime(
        RESET_MS,
        () => eventually(() => stream.fault ?? stream.last.number > streamed + 5, { timeout: 30_000 }),
      ),
      inTime(RESET_MS, () => eventually(() => datagrams.last.number > number + 5, { timeout: 30_000 })),
    ]);
    assert.equal(datagrams.fault, undefined);
  };

  await t.step("after half a minute without a network, or without a processor", async () => {
    await ground.run("agent1", ["ip", "link", "set", "eth0", "down"]);
    suspended.agent.signal("SIGSTOP");
    await ground.run("agent1", ["sleep", SLEEP_SECONDS]);
    const { error } = await unplugged.clients.tcp("stream");
    assert.equal(error, "No route to host", "meanwhile programs hear that nobody is reachable");
    suspended.agent.signal("SIGCONT");
    await ground.run("agent1", ["ip", "link", "set", "eth0", "up"]);
    await Promise.all(laptops.map(newFlows));
    await Promise.all(laptops.map(oldFlows));
    assert.ok(suspended.agent.lines.every((line) => !line.includes("capture_blocked")));
  });

  await t.step("with another address", async () => {
    const moved = await unplugged.again();
    await ground.run("agent1", [
      ...["sh", "-ec", 'ip addr del "$0/24" dev eth0; ip addr add 10.77.0.99/24 dev eth0'],
      ground.hosts.host("agent1").address,
    ]);
    await newFlows(moved);
    await newFlows(moved);
    await oldFlows(moved);
  });
});

const HOSTS = ["agent1", "agent2"] as const;

/** A host with an agent, and programs in the middle of something. */
class Laptop {
  readonly agent: ManagedProcess;
  readonly clients: ServiceClients;
  readonly idle: { readonly speak: () => Promise<Asked> };
  readonly stream: Ticks;
  readonly datagrams: Ticks;

  private constructor(
    agent: ManagedProcess,
    clients: ServiceClients,
    flows: Pick<Laptop, "idle" | "stream" | "datagrams">,
  ) {
    this.agent = agent;
    this.clients = clients;
    this.idle = flows.idle;
    this.stream = flows.stream;
    this.datagrams = flows.datagrams;
  }

  static async start(ground: ServiceGround, host: (typeof HOSTS)[number]): Promise<Laptop> {
    const agent = await ground.startAgent(host);
    const clients = new ServiceClients(ground, host);
    await eventually(async () => (await clients.tcp("stream")).by, { timeout: 20_000 });
    return await Laptop.#with(agent, clients);
  }

  static async #with(agent: ManagedProcess, clients: ServiceClients): Promise<Laptop> {
    const [idle, stream, datagrams] = await Promise.all([
      clients.idle("stream"),
      clients.ticks("tcp", "stream"),
      clients.ticks("udp", "datagrams"),
    ]);
    return new Laptop(agent, clients, { idle, stream, datagrams });
  }

  /** The same with new programs. */
  again(): Promise<Laptop> {
    return Laptop.#with(this.agent, this.clients);
  }
}
