/** Three relays, of which some die or fall silent under an agent's flows: the next flow goes by another within 2 s. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { askName, connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import { type AgentNode, type ConnectorNode, Network, type RelayNode } from "../support/network.ts";

/** Milliseconds in which a flow begins, whatever has happened to relays. */
const FAIL_OVER_MS = 2_000;

/** How a relay is lost, and the signal that does it: stopped, it answers nothing, as behind a network that drops all. */
const LOSSES = [{ loss: "killed", signal: "SIGKILL" }, { loss: "silent", signal: "SIGSTOP" }] as const;

for (const carrier of ["auto", "quic", "tls"]) {
  for (const { loss, signal } of LOSSES) {
    Deno.test(`carrier ${carrier}: a relay that is ${loss} costs no flow more than 2 s, and doubles none`, async () => {
      await using ground = await Ground.create({ carrier });
      const { agent, relays, upstream } = ground;
      const running = await connectNamed(agent.forward("web"));
      for (let i = 0; i < 3; i++) await askName(agent.forward("web"));
      assert.equal((await relays[1]!.audit()).length + (await relays[2]!.audit()).length, 0);
      relays[0]!.process!.signal(signal);
      const lost = performance.now();
      const ended = endOf(running.conn);
      for (let i = 0; i < 5; i++) await askInTime(agent);
      assert.equal(upstream.accepted, 9);
      // The running flow's client is told, long before QUIC's idle time-out would.
      await ended;
      assert.ok(performance.now() - lost < 6_000, `${performance.now() - lost} ms`);
    });
  }
}

for (const { loss, signal } of LOSSES) {
  Deno.test(`two of three relays are ${loss} at once: the third carries the next flow within 2 s`, async () => {
    await using ground = await Ground.create({ carrier: "auto" });
    const { agent, relays, upstream } = ground;
    await askName(agent.forward("web"));
    for (const relay of relays.slice(0, 2)) relay.process!.signal(signal);
    await askInTime(agent);
    await askInTime(agent);
    assert.equal(upstream.accepted, 3);
  });

  Deno.test(`a flow that waits for an answer ends when its relay is ${loss}, though no other flow is opened`, async () => {
    await using ground = await Ground.create({ carrier: "quic" });
    const { conn } = await connectNamed(ground.agent.forward("web"));
    ground.relays[0]!.process!.signal(signal);
    const lost = performance.now();
    await conn.write(new Uint8Array(10));
    await endOf(conn);
    assert.ok(performance.now() - lost < 6_000, `${performance.now() - lost} ms`);
  });
}

Deno.test("a relay that only paused keeps the flows it carries", async () => {
  await using ground = await Ground.create({ carrier: "quic" });
  const { agent, relays, upstream } = ground;
  const { conn } = await connectNamed(agent.forward("web"));
  relays[0]!.process!.signal("SIGSTOP");
  await conn.write(new Uint8Array(10));
  // Another flow finds its relay slow, goes by the second, and has the first asked for a sign of life.
  await askInTime(agent);
  relays[0]!.process!.signal("SIGCONT");
  await eventually(() => upstream.received === 10);
  await conn.write(new Uint8Array(10));
  await eventually(() => upstream.received === 20);
  assert.ok(agent.lines.every((line) => !line.includes('"relay_lost"')));
  conn.close();
});

Deno.test("agent and connector find a killed and restarted relay again before they would have missed it", async () => {
  await using ground = await Ground.create({ carrier: "auto" });
  const { agent, network, relays: [first] } = ground;
  await askName(agent.forward("web"));
  await first!.process!.stop({ signal: "SIGKILL" });
  await askInTime(agent);
  await network.relay({ name: first!.name, port: first!.port, separate: true });
  const count = (lines: readonly string[], event: string) =>
    lines.filter((line) => line.includes(event) && line.includes('"relay":"relay-1"')).length;
  await eventually(() => count(agent.lines, '"relay_connected"') === 2, { timeout: 8_000 });
  await eventually(() => count(ground.connector.lines, '"service_bound"') === 2, { timeout: 8_000 });
});

/** Three relays as processes of their own, one connector at all of them, and an agent that prefers the first. */
class Ground implements AsyncDisposable {
  readonly network: Network;
  readonly upstream = new NamedUpstream("reached");
  readonly relays: RelayNode[] = [];
  agent!: AgentNode;
  connector!: ConnectorNode;

  static async create({ carrier }: { readonly carrier: string }): Promise<Ground> {
    const ground = new Ground(await Network.create());
    const { network, relays, upstream } = ground;
    try {
      relays.push(
        ...await Promise.all(
          [1, 2, 3].map((n) => network.relay({ name: `relay-${n}`, separate: true })),
        ),
      );
      const config = { carrier };
      const services = { web: upstream.upstream };
      ground.connector = await network.connector({ services, relays, config, separate: true });
      ground.agent = await network.agent({ forwards: ["web"], relays, config });
    } catch (error) {
      await ground[Symbol.asyncDispose]();
      throw error;
    }
    return ground;
  }

  private constructor(network: Network) {
    this.network = network;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A stopped process hears of nothing else, and the connector would wait for flows that a dead relay carried.
    for (const node of [...this.relays, this.connector]) node?.process?.signal("SIGKILL");
    await this.network[Symbol.asyncDispose]();
    this.upstream[Symbol.dispose]();
  }
}

async function askInTime(agent: AgentNode): Promise<void> {
  const started = performance.now();
  assert.equal(await askName(agent.forward("web")), "reached");
  const elapsed = performance.now() - started;
  assert.ok(elapsed < FAIL_OVER_MS, `the flow took ${Math.round(elapsed)} ms`);
}

/** Resolves when the connection has ended, in whatever way. */
async function endOf(conn: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(1_024);
  try {
    while (await conn.read(buffer) !== null);
  } catch (error) {
    assert.ok(error instanceof Deno.errors.ConnectionReset, String(error));
  }
  conn.close();
}
