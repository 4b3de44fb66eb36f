/** Services that the policy defines by `host.v1`, offered by connectors whose own config names none. */

import assert from "node:assert/strict";
import type { Host } from "../../src/core/service/host.ts";
import { eventually } from "../support/eventually.ts";
import { askName, connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import { type ConnectorNode, Network, type RelayNode } from "../support/network.ts";

/** Milliseconds in which a change of policy reaches a connector. */
const CHANGE_LIMIT = 1_000;

const EVERYBODY = ["Dial", "Bind"].map((type) => ({
  name: type,
  type,
  identityRoles: ["#all"],
  serviceRoles: ["#all"],
}));

function policy(hosts: Readonly<Record<string, Host | undefined>>): unknown {
  const services = Object.entries(hosts).map(([name, host]) => ({
    name,
    ...(host === undefined ? {} : { host }),
  }));
  return { services, servicePolicies: EVERYBODY };
}

function at({ port }: { readonly port: number }, more: Partial<Host> = {}): Host {
  return { protocol: "tcp", address: "127.0.0.1", port, ...more };
}

function host(
  network: Network,
  { name = "conn", relay, allow }: {
    readonly name?: string;
    readonly relay: RelayNode;
    readonly allow: string[];
  },
): Promise<ConnectorNode> {
  return network.connector({ name, services: {}, relays: [relay], config: { hosting: { allow } } });
}

/** Waits until a connector has bound a service as often as said; returns the milliseconds it took. */
async function untilBound(connector: ConnectorNode, service: string, times = 1): Promise<number> {
  const started = performance.now();
  await eventually(() =>
    connector.lines.filter((line) =>
      line.includes('"service_bound"') && line.includes(`"service":"${service}"`)
    )
      .length >= times
  );
  return performance.now() - started;
}

Deno.test("a service of host.v1 is offered where the connector allows it, changes live, and goes with the policy", async () => {
  using first = new NamedUpstream("first");
  using second = new NamedUpstream("second");
  await using network = await Network.create({ policy: policy({ web: at(first), other: undefined }) });
  const relay = await network.relay();
  const connector = await host(network, { relay, allow: ["127.0.0.0/8"] });
  await untilBound(connector, "web");
  const agent = await network.agent({ forwards: ["web", "late"], relays: [relay] });
  assert.equal(await askName(agent.forward("web")), "first");

  await network.writePolicy(policy({ web: at(second), late: at(first) }));
  assert.ok(await untilBound(connector, "late") < CHANGE_LIMIT);
  await eventually(async () => await askName(agent.forward("web")) === "second");
  await eventually(async () => await askName(agent.forward("late")) === "first");

  const { conn } = await connectNamed(agent.forward("late"));
  await network.writePolicy(policy({ web: at(second) }));
  // The right to bind is gone, and with it the flow.
  await eventually(async () => await conn.read(new Uint8Array(1)).catch(() => null) === null);
  conn.close();
  assert.equal(await askName(agent.forward("web")), "second");
});

Deno.test("what the connector does not allow is not offered, whatever the policy says", async () => {
  using upstream = new NamedUpstream("secret");
  using web = new NamedUpstream("web");
  await using network = await Network.create({ policy: policy({ secret: at(upstream), web: at(web) }) });
  const relay = await network.relay();
  const connector = await host(network, { relay, allow: [`127.0.0.1:${web.port}`] });
  await untilBound(connector, "web");
  const line = await eventually(() => connector.lines.find((line) => line.includes('"service_not_hosted"')));
  assert.match(line, /"service":"secret".*hosting\.allow/);
  const agent = await network.agent({ forwards: ["secret"], relays: [relay] });
  await assert.rejects(askName(agent.forward("secret")));
  assert.equal(upstream.accepted, 0);
});

Deno.test("a connector that is full passes a flow on to the next", async () => {
  using upstream = new NamedUpstream("reached");
  const narrow = at(upstream, { listenOptions: { maxConnections: 2 } });
  await using network = await Network.create({ policy: policy({ web: narrow }) });
  const relay = await network.relay();
  const first = await host(network, { name: "one", relay, allow: ["127.0.0.0/8"] });
  await untilBound(first, "web");
  const agent = await network.agent({ forwards: ["web"], relays: [relay] });
  const flows = [await connectNamed(agent.forward("web")), await connectNamed(agent.forward("web"))];
  await assert.rejects(askName(agent.forward("web")));
  const second = await host(network, { name: "two", relay, allow: ["127.0.0.0/8"] });
  await untilBound(second, "web");
  flows.push(await connectNamed(agent.forward("web")));
  for (const { conn } of flows) conn.close();
});

Deno.test("a failing check takes a connector out of service until it passes again", async () => {
  using upstream = new NamedUpstream("reached");
  const gate = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = gate.addr;
  await using network = await Network.create({
    policy: policy({
      web: at(upstream, { portChecks: [{ address: `127.0.0.1:${port}`, interval: "1s", timeout: "1s" }] }),
    }),
  });
  const relay = await network.relay();
  const connector = await host(network, { relay, allow: ["127.0.0.0/8"] });
  await untilBound(connector, "web");
  const agent = await network.agent({ forwards: ["web"], relays: [relay] });
  assert.equal(await askName(agent.forward("web")), "reached");
  gate.close();
  await eventually(() => connector.lines.some((line) => line.includes('"healthy":false')));
  await eventually(() => askName(agent.forward("web")).then(() => false, () => true));
  using _gate = Deno.listen({ hostname: "127.0.0.1", port });
  await eventually(async () => await askName(agent.forward("web")) === "reached");
});

Deno.test("checks that make a connector dear send flows to the other", async () => {
  using upstream = new NamedUpstream("reached");
  using gate = new NamedUpstream("gate");
  await using network = await Network.create({
    policy: policy({
      web: at(upstream, {
        portChecks: [{
          address: `127.0.0.1:${gate.port}`,
          interval: "1s",
          timeout: "1s",
          actions: [{ trigger: "fail", action: "increase cost 100" }],
        }],
      }),
    }),
  });
  const relay = await network.relay();
  // The check reaches nothing that this connector's config does not allow.
  const dear = await host(network, { name: "dear", relay, allow: [`127.0.0.1:${upstream.port}`] });
  await eventually(() => dear.lines.some((line) => line.includes('"cost":100')));
  const cheap = await host(network, { name: "cheap", relay, allow: ["127.0.0.0/8"] });
  await untilBound(cheap, "web");
  const agent = await network.agent({ forwards: ["web"], relays: [relay] });
  const flows = [];
  for (let i = 0; i < 4; i++) flows.push(await connectNamed(agent.forward("web")));
  for (const { conn } of flows) conn.close();
  const connects = await eventually(async () => {
    const lines = (await relay.audit()).filter(({ event }) => event === "connect");
    return lines.length === 4 && lines;
  });
  for (const { connector } of connects) assert.ok(connector?.endsWith("/cheap"), connector);
});
