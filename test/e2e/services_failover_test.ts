/**
 * What a user's programs notice when connectors and relays are lost: new flows of every kind begin within two seconds by
 * whoever is left, and where nobody is left programs hear so, while names that are none of ours still answer.
 */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { hosted, ServiceClients, startUpstream } from "../support/service_clients.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { SERVICES } from "../support/tunnel_hosts.ts";
import { within } from "../support/within.ts";

const NEEDS = [needsRoot(), needsTun(), needsTool("ping"), needsTool("python3")];
const RELAYS = ["relay-1", "relay-2"];
const OTHER_NAME = "elsewhere.example";

testNeeding(NEEDS, "services live on when connectors and relays are lost", async (t) => {
  await using ground = await Ground.create();
  const { clients } = ground;

  await t.step("two services on two connectors at once answer under load of each other", async () => {
    const loads = await Promise.all(["left", "right"].map((service) => clients.load(service, 24)));
    assert.deepEqual(loads.map(({ by }) => by), ["conn1", "conn2"]);
    const both = await clients.load("both", 24);
    assert.equal(both.by, "conn1 conn2", "a service on two connectors uses both");
  });

  await t.step(
    "a connector that is killed: new flows at once by the other, a running one goes on",
    async () => {
      const ticks = await clients.ticks("udp", "datagrams");
      const { by: victim } = ticks.last;
      await ground.connectors.get(victim)!.stop({ signal: "SIGKILL" });
      await ground.newFlows({ not: victim });
      await within(6_000, () => eventually(() => ticks.last.by !== victim, { timeout: 30_000 }), ground);
      assert.equal(ticks.fault, undefined);
      await ground.startConnector(victim as "conn1" | "conn2");
    },
  );

  await t.step("a connector whose machine is off: the same, though nothing tells of it", async () => {
    const ticks = await clients.ticks("udp", "datagrams");
    const { by: victim } = ticks.last;
    await ground.services.run(victim as "conn1", ["ip", "link", "set", "eth0", "down"]);
    await ground.newFlows({ not: victim });
    await within(10_000, () => eventually(() => ticks.last.by !== victim, { timeout: 30_000 }), ground);
    await ground.services.run(victim as "conn1", ["ip", "link", "set", "eth0", "up"]);
  });

  await t.step("the preferred relay is killed: flows by the other, names answer all the time", async () => {
    assert.ok((await ground.flowsAt("relay-2")) > 0, "the first relay of the list carried the flows");
    const ticks = await clients.ticks("udp", "datagrams");
    const pings = clients.pings("both");
    await pings.waitForLine(/ time=/);
    await ground.relay2.stop({ signal: "SIGKILL" });
    const [named] = await Promise.all([
      within(1_000, () => clients.isNamed("both.ginnel.internal"), ground),
      ground.newFlows(),
    ]);
    assert.ok(named);
    const [tickedBefore, pingedBefore] = [ticks.last.number, pings.lines.length];
    await within(
      4_000,
      () =>
        eventually(() => ticks.last.number > tickedBefore + 5 && pings.lines.length > pingedBefore + 5, {
          timeout: 30_000,
        }),
      ground,
    );
  });

  await t.step("no relay is left: names answer, programs hear that nobody is reachable", async () => {
    await ground.services.controller.kill();
    await within(
      6_000,
      () =>
        eventually(async () => /No route/.test((await clients.tcp("both")).error ?? ""), { timeout: 30_000 }),
      ground,
    );
    // At once for each of the two addresses of a name, but for what a machine needs that wakes up.
    const { error } = await within(4_000, () => clients.tcp("both"), ground);
    assert.equal(error, "No route to host");
    assert.equal(await clients.ping("both"), false);
    assert.ok(await within(1_000, () => clients.isNamed("both.ginnel.internal"), ground));
    assert.ok(await within(1_000, () => clients.isNamed(OTHER_NAME), ground));
  });

  await t.step("relays are back: so is everything, by itself", async () => {
    await Promise.all([ground.services.controller.start(), ground.startRelay2()]);
    await within(
      10_000,
      () => eventually(() => ground.newFlows().then(() => true), { timeout: 30_000 }),
      ground,
    );
  });

  await t.step("a user who is disabled loses names, new and running flows within a second", async () => {
    const flows = await Promise.all([clients.ticks("tcp", "both"), clients.ticks("udp", "datagrams")]);
    const pings = clients.pings("both");
    await pings.waitForLine(/ time=/);
    await ground.disableUser();
    await within(
      1_000,
      () =>
        eventually(
          async () =>
            flows.every(({ fault }) => fault !== undefined) && !await clients.isNamed("both.ginnel.internal"),
          {
            timeout: 30_000,
          },
        ),
      ground,
    );
    await pings.waitForLine(/unreachable/);
    assert.ok(await clients.isNamed(OTHER_NAME));
  });
});

/** Two relays, two connectors at both, and an agent that prefers the relay without the controller. */
class Ground implements AsyncDisposable {
  readonly services: ServiceGround;
  readonly clients: ServiceClients;
  readonly connectors = new Map<string, ManagedProcess>();
  relay2!: ManagedProcess;
  agent!: ManagedProcess;

  private constructor(services: ServiceGround) {
    this.services = services;
    this.clients = new ServiceClients(services, "agent1");
  }

  static async create(): Promise<Ground> {
    const services = await ServiceGround.create();
    const ground = new Ground(services);
    try {
      await services.hosts.writeNames({ [OTHER_NAME]: { addresses: ["192.0.2.7"], ttl: 1 } });
      await services.hosts.startInternet("agent2");
      const internet = services.hosts.host("agent2").address;
      await services.run("agent1", ["ip", "route", "add", SERVICES.dns, "via", internet]);
      for (const name of ["left", "right", "both", "datagrams"]) await services.service({ name });
      await services.allow("Dial");
      await services.allow("Bind");
      await ground.startRelay2();
      await Promise.all((["conn1", "conn2"] as const).map(async (host) => {
        await startUpstream(services, host);
        await ground.startConnector(host);
      }));
      ground.agent = await services.startAgent("agent1", {
        relays: [2, 1].map((number) => ({
          name: `relay-${number}`,
          address: `${services.hosts.host(`relay${number}` as "relay1").address}:4433`,
        })),
        services: {},
      });
      for (const name of ["left", "right", "both"]) {
        await eventually(async () => (await ground.clients.tcp(name)).by, { timeout: 20_000 });
      }
      return ground;
    } catch (error) {
      await services[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** All whose lack of processor time is no fault of the product. */
  get processes(): readonly number[] {
    const nodes = [this.agent, this.relay2, this.services.controller.process, ...this.connectors.values()];
    return nodes.map(({ pid }) => pid);
  }

  async startRelay2(): Promise<void> {
    this.relay2 = await this.services.startRelay2();
  }

  async startConnector(host: "conn1" | "conn2"): Promise<void> {
    const own = hosted(host === "conn1" ? "left" : "right");
    const config = { services: [own, hosted("both"), hosted("datagrams", "udp")] };
    this.connectors.set(host, await this.services.startConnector(host, config, { relays: RELAYS }));
  }

  /** New flows of every kind begin in time, and not at a connector that is gone. */
  async newFlows({ not }: { readonly not?: string } = {}): Promise<void> {
    const { clients } = this;
    const begin = async (ask: () => Promise<string | undefined>) => {
      const by = await within(2_000, ask, this);
      assert.ok(by !== undefined && by !== not, `answered by ${by}`);
    };
    await Promise.all([
      begin(async () => (await clients.tcp("both")).by),
      begin(async () => (await clients.udp("datagrams")).by),
      begin(async () => await clients.ping("both") ? "somebody" : undefined),
    ]);
  }

  /** Flows that a relay has carried. */
  async flowsAt(relay: string): Promise<number> {
    const audit = await Deno.readTextFile(`${this.services.folder}/${relay}.audit.jsonl`);
    return audit.split("\n").filter((line) => line.includes('"event":"connect"')).length;
  }

  async disableUser(): Promise<void> {
    const { json } = await this.services.api("GET", "/identities?limit=100");
    const { id } = (json as { data: { id: string; name: string }[] }).data.find(({ name }) =>
      name === "agent-1"
    )!;
    const { status } = await this.services.api("POST", `/identities/${id}/disable`);
    assert.equal(status, 200);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.services[Symbol.asyncDispose]();
  }
}
