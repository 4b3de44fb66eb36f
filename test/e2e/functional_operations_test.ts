/** Health endpoints, and what a stop by SIGTERM means for flows that run and flows that come. */

import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { writeAll } from "../modes/agent/local_service.ts";
import { eventually } from "../support/eventually.ts";
import { askName, connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import { Network } from "../support/network.ts";

Deno.test("liveness and readiness of all three modes follow what they can do", async (t) => {
  await using network = await Network.create();
  using upstream = new NamedUpstream("up");
  const relay = await network.relay({ separate: true });
  const socket = `${network.folder}/connector.health`;
  const connector = await network.connector({
    services: { web: upstream.upstream },
    relays: [relay],
    config: { health: `unix:${socket}` },
  });
  const agent = await network.agent({ relays: [relay], config: { health: "127.0.0.1:0" } });
  const [, address] = await agent.waitForLine(/"health_listening","address":"([^"]+)"/);
  using overUnix = Deno.createHttpClient({ proxy: { transport: "unix", path: socket } });
  const nodes: [string, string, Deno.HttpClient | undefined][] = [
    ["relay", relay.health, undefined],
    ["connector", "http://localhost", overUnix],
    ["agent", `http://${address}`, undefined],
  ];

  for (const [mode, base, client] of nodes) {
    await t.step(`${mode}: live and ready, under every name`, async () => {
      for (const path of ["/health", "/healthz", "/health/live", "/ready", "/readyz", "/health/ready"]) {
        const { status, body } = await ask(base + path, client);
        const word = path.includes("ready") ? "ready" : "ok";
        assert.deepEqual([status, body.status], [200, word], path);
        assert.equal(typeof body.version, "string");
        assert.ok(body.uptimeSeconds >= 0);
      }
      assert.equal((await ask(`${base}/metrics-of-others`, client)).status, 404);
    });
  }

  await t.step(
    "without a relay connector and agent live but are not ready, and recover by themselves",
    async () => {
      await relay.stop();
      for (const [mode, base, client] of nodes.slice(1)) {
        const { body } = await eventually(async () => {
          const answer = await ask(`${base}/ready`, client);
          return answer.status === 503 && answer;
        });
        assert.equal(body.reason, "no relay connected", mode);
        assert.equal((await ask(`${base}/health`, client)).status, 200);
      }
      await network.relay({ port: relay.port, separate: true });
      for (const [, base, client] of nodes.slice(1)) {
        await eventually(async () => (await ask(`${base}/ready`, client)).status === 200);
      }
      assert.ok(connector.lines.some((line) => line.includes('"relay_lost"')));
    },
  );
});

Deno.test("SIGTERM: a relay is unready, lets its flow finish, sends new ones elsewhere, and exits 0", async () => {
  await using network = await Network.create();
  using upstream = new NamedUpstream("up");
  const first = await network.relay({ name: "relay-1", separate: true, config: { drainSeconds: 60 } });
  const second = await network.relay({ name: "relay-2" });
  await network.connector({ services: { web: upstream.upstream }, relays: [first, second] });
  const both = await network.agent({ name: "both", forwards: ["web"], relays: [first, second] });
  const one = await network.agent({ name: "one", forwards: ["web"], relays: [first] });
  const running = await connectNamed(both.forward("web"));

  first.process!.signal("SIGTERM");
  await first.waitForLine(/"relay_draining"/);
  const { status, body } = await ask(`${first.health}/ready`);
  assert.deepEqual([status, body.reason], [503, "draining"]);
  assert.equal((await ask(`${first.health}/health`)).status, 200);
  for (const agent of [both, one]) await agent.waitForLine(/"relay_draining"/);
  assert.equal(await askName(both.forward("web")), "up");
  await eventually(async () =>
    (await second.audit()).filter(({ event }) => event === "connect").length === 1
  );
  await assert.rejects(askName(one.forward("web")), Deno.errors.ConnectionReset);

  await writeAll(running.conn, utf8("still served"));
  await eventually(() => upstream.received === "still served".length);
  assert.equal(first.process!.running, true);
  running.conn.close();
  const { code } = await first.process!.ended;
  assert.equal(code, 0);
  const close = (await first.audit()).find(({ event }) => event === "close");
  assert.equal(close?.outcome, "closed");
});

Deno.test("SIGTERM: a flow that does not finish is reset when the drain time is over, exit code 0", async () => {
  await using network = await Network.create();
  using upstream = new NamedUpstream("up");
  const relay = await network.relay({ separate: true, config: { drainSeconds: 1 } });
  await network.connector({ services: { web: upstream.upstream }, relays: [relay] });
  const agent = await network.agent({ forwards: ["web"], relays: [relay] });
  const { conn } = await connectNamed(agent.forward("web"));
  const started = performance.now();
  relay.process!.signal("SIGTERM");
  await assert.rejects(conn.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  const elapsed = performance.now() - started;
  assert.equal((await relay.process!.ended).code, 0);
  assert.ok(elapsed >= 1_000 && elapsed < 4_000, `the flow lasted ${Math.round(elapsed)} ms`);
  assert.equal((await relay.audit()).find(({ event }) => event === "close")?.outcome, "aborted");
  conn.close();
});

Deno.test("SIGTERM: a connector takes no new flows, lets its flow finish, and exits 0", async () => {
  await using network = await Network.create();
  using first = new NamedUpstream("first");
  using second = new NamedUpstream("second");
  const relay = await network.relay();
  const relays = [relay];
  const leaving = await network.connector({
    name: "c1",
    services: { web: first.upstream },
    relays,
    separate: true,
  });
  const agent = await network.agent({ forwards: ["web"], relays });
  const running = await connectNamed(agent.forward("web"));
  await network.connector({ name: "c2", services: { web: second.upstream }, relays });
  leaving.process!.signal("SIGTERM");
  await leaving.waitForLine(/"connector_draining"/);
  // Its word to the relay is on its way: from then on, and with fewer flows or not, nothing new comes to it.
  await eventually(async () => await askName(agent.forward("web")) === "second");
  for (let i = 0; i < 3; i++) assert.equal(await askName(agent.forward("web")), "second");
  await writeAll(running.conn, utf8("still served"));
  await eventually(() => first.received === "still served".length);
  assert.equal(leaving.process!.running, true);
  running.conn.close();
  assert.equal((await leaving.process!.ended).code, 0);
});

Deno.test("SIGTERM: an agent's flows end with it, at both ends, and it exits 0", async () => {
  await using network = await Network.create();
  using upstream = new NamedUpstream("up");
  const relay = await network.relay();
  await network.connector({ services: { web: upstream.upstream }, relays: [relay] });
  const agent = await network.agent({ forwards: ["web"], relays: [relay], separate: true });
  const { conn } = await connectNamed(agent.forward("web"));
  agent.process!.signal("SIGTERM");
  assert.equal((await agent.process!.ended).code, 0);
  await assert.rejects(conn.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  await eventually(() => upstream.open === 0);
  conn.close();
});

Deno.test("a relay that cannot write its audit log works on, and says so in readiness", async () => {
  await using network = await Network.create();
  const relay = await network.relay({ config: { audit: { file: "/dev/full" } } });
  const agent = await network.agent({ relays: [relay], forwards: ["web"] });
  // No policy lets her: a denial to record.
  using client = await Deno.connect({ hostname: "127.0.0.1", port: agent.forward("web") });
  await client.read(new Uint8Array(1)).catch(() => null);
  const { status, body } = await eventually(async () => {
    const answer = await ask(`${relay.health}/ready`);
    return answer.body.status === "degraded" && answer;
  });
  assert.equal(status, 200);
  assert.deepEqual(body.degraded, ["audit records cannot be written"]);
});

async function ask(
  url: string,
  client?: Deno.HttpClient,
): Promise<{ status: number; body: Record<string, unknown> & { uptimeSeconds: number } }> {
  const response = await fetch(url, client === undefined ? {} : { client });
  return { status: response.status, body: await response.json() };
}
