/** Several connectors and several relays: who gets a flow, and who takes over when one fails. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { askName, connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import { Network } from "../support/network.ts";

Deno.test("of two connectors the one with fewer flows gets the next", async () => {
  await using network = await Network.create();
  using first = new NamedUpstream("first");
  using second = new NamedUpstream("second");
  const relay = await network.relay();
  await network.connector({ name: "c1", services: { web: first.upstream }, relays: [relay] });
  await network.connector({ name: "c2", services: { web: second.upstream }, relays: [relay] });
  const agent = await network.agent({ forwards: ["web"], relays: [relay] });
  const flows = [];
  for (let i = 0; i < 4; i++) flows.push(await connectNamed(agent.forward("web")));
  assert.deepEqual([first.open, second.open], [2, 2]);
  for (const { name, conn } of flows) if (name === "first") conn.close();
  await eventually(async () => (await relay.audit()).filter(({ event }) => event === "close").length === 2);
  for (let i = 0; i < 2; i++) {
    const flow = await connectNamed(agent.forward("web"));
    assert.equal(flow.name, "first");
    flows.push(flow);
  }
  for (const { name, conn } of flows.slice(0, 4)) if (name === "second") conn.close();
  for (const { conn } of flows.slice(4)) conn.close();
});

Deno.test("when a connector's upstream is down the other connector gets the flow", async () => {
  await using network = await Network.create();
  using up = new NamedUpstream("up");
  const relay = await network.relay();
  await network.connector({
    name: "down",
    services: { web: `tcp://127.0.0.1:${freePort()}` },
    relays: [relay],
  });
  await network.connector({ name: "up", services: { web: up.upstream }, relays: [relay] });
  const agent = await network.agent({ forwards: ["web"], relays: [relay] });
  for (let i = 0; i < 4; i++) assert.equal(await askName(agent.forward("web")), "up");
  // Without this the refusing connector might never have been asked.
  await eventually(async () => (await relay.audit()).some(({ connector }) => connector?.endsWith("/down")));
});

for (const carrier of ["quic", "tls"]) {
  Deno.test(`carrier ${carrier}: when a connector is killed the other takes over`, async () => {
    await using network = await Network.create();
    using first = new NamedUpstream("first");
    using second = new NamedUpstream("second");
    const relay = await network.relay();
    const c1 = await network.connector({
      name: "c1",
      services: { web: first.upstream },
      relays: [relay],
      separate: true,
      config: { carrier },
    });
    const agent = await network.agent({ forwards: ["web"], relays: [relay], config: { carrier } });
    assert.equal(await askName(agent.forward("web")), "first");
    await eventually(() => first.open === 0);
    await network.connector({
      name: "c2",
      services: { web: second.upstream },
      relays: [relay],
      config: { carrier },
    });
    await c1.process!.stop({ signal: "SIGKILL" });
    const killed = performance.now();
    for (let i = 0; i < 4; i++) assert.equal(await askName(agent.forward("web")), "second");
    assertStalledOnce(killed);
  });
}

Deno.test("connector and agent find a restarted relay again", async () => {
  await using network = await Network.create();
  using upstream = new NamedUpstream("still here");
  const before = await network.relay({ separate: true });
  const connector = await network.connector({ services: { web: upstream.upstream }, relays: [before] });
  const agent = await network.agent({ forwards: ["web"], relays: [before] });
  assert.equal(await askName(agent.forward("web")), "still here");
  await before.stop();
  const after = await network.relay({ port: before.port, separate: true });
  await eventually(() => connector.lines.filter((line) => line.includes('"service_bound"')).length === 2);
  await eventually(() => agent.lines.filter((line) => line.includes('"relay_connected"')).length === 2);
  assert.equal(await askName(agent.forward("web")), "still here");
  await eventually(async () => (await after.audit()).filter(({ event }) => event === "connect").length === 2);
});

for (const carrier of ["quic", "tls"]) {
  Deno.test(`carrier ${carrier}: an agent with two relays goes by the other when one is killed`, async () => {
    await using network = await Network.create();
    using upstream = new NamedUpstream("reached");
    const first = await network.relay({ name: "relay-1", separate: true });
    const second = await network.relay({ name: "relay-2" });
    const relays = [first, second];
    await network.connector({ services: { web: upstream.upstream }, relays, config: { carrier } });
    const agent = await network.agent({ forwards: ["web"], relays, config: { carrier } });
    assert.equal(await askName(agent.forward("web")), "reached");
    assert.equal((await second.audit()).length, 0);
    // Else the connector would wait for the end of that flow, which only its idle time-out brings.
    await eventually(() => upstream.open === 0);
    await first.process!.stop({ signal: "SIGKILL" });
    const killed = performance.now();
    for (let i = 0; i < 3; i++) assert.equal(await askName(agent.forward("web")), "reached");
    assertStalledOnce(killed);
    await eventually(async () =>
      (await second.audit()).filter(({ event }) => event === "connect").length === 3
    );
  });
}

Deno.test("a relay that comes back knowing nobody does not undo what the other's view allows", async () => {
  await using network = await Network.create();
  using upstream = new NamedUpstream("reached");
  const first = await network.relay({ name: "relay-1" });
  const second = await network.relay({ name: "relay-2", separate: true });
  const relays = [first, second];
  await network.connector({ name: "only-first", services: { web: upstream.upstream }, relays: [first] });
  const agent = await network.agent({ forwards: ["web"], relays });
  const running = await connectNamed(agent.forward("web"));
  await second.stop();
  await network.relay({ name: "relay-2", port: second.port, separate: true });
  await eventually(() =>
    agent.lines.filter((line) => /"view_accepted".*"relay":"relay-2"/.test(line)).length === 2
  );
  assert.equal(await askName(agent.forward("web")), "reached");
  await running.conn.write(new Uint8Array(10));
  await eventually(() => upstream.received === 10);
  running.conn.close();
});

Deno.test("a service whose health check fails takes no flows until it works again", async () => {
  await using network = await Network.create();
  const port = freePort();
  const relay = await network.relay();
  const connector = await network.connector({
    services: {
      web: {
        upstream: `tcp://127.0.0.1:${port}`,
        healthCheck: { kind: "tcp", interval: "1s", timeout: "500ms" },
      },
    },
    relays: [relay],
  });
  const agent = await network.agent({ forwards: ["web"], relays: [relay] });
  await connector.waitForLine(/"upstream_health_changed".*"healthy":false/);
  await assert.rejects(askName(agent.forward("web")), Deno.errors.ConnectionReset);
  const { outcome, reason } = (await eventually(async () => (await relay.audit()).at(-1)))!;
  assert.deepEqual({ outcome, reason }, { outcome: "503", reason: "no_connector" });
  using _upstream = new NamedUpstream("back", { port });
  await connector.waitForLine(/"upstream_health_changed".*"healthy":true/);
  assert.equal(await eventually(() => askName(agent.forward("web"))), "back");
});

/**
 * Over QUIC nobody hears of a killed process until its idle time-out: the first flow finds out by waiting, and the
 * ones after it must not wait again.
 */
function assertStalledOnce(killed: number): void {
  const elapsed = performance.now() - killed;
  assert.ok(elapsed < 8_000, `several flows took ${Math.round(elapsed)} ms: more than one waited`);
}
