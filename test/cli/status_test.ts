import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { statusCommand } from "../../src/cli/status.ts";
import { loadConfig } from "../../src/config/parse_config.ts";
import { runMode } from "../../src/modes/run.ts";
import { eventually } from "../support/eventually.ts";
import { type DemoFolder, editJson, fileOf, makeDemoFolder, Printed } from "./demo_folder.ts";

async function demoWithSockets(): Promise<DemoFolder> {
  const demo = await makeDemoFolder();
  for (const path of [demo.agentConfig, demo.connectorConfig]) {
    await editJson(path, (config) => config.control = `unix:${fileOf(demo, `${config.mode}.sock`)}`);
  }
  return demo;
}

async function ask(...args: string[]): Promise<[number, Printed]> {
  const io = new Printed();
  return [await statusCommand(args, io), io];
}

const start = async (config: string) => await runMode(await loadConfig(config), { logger: SILENT_LOGGER });

Deno.test("status says what of a running agent and connector works, and exits 3 while no relay is there", async () => {
  const demo = await demoWithSockets();
  using _upstream = Deno.listen({ transport: "unix", path: demo.socket });
  const agent = await start(demo.agentConfig);
  const [code, alone] = await ask("--config", demo.agentConfig);
  assert.equal(code, 3, alone.err);
  assert.match(alone.out, /^state +disconnected/);
  assert.match(alone.out, /no relay is connected\n +-> /);

  const relay = await start(demo.relayConfig);
  const connector = await start(demo.connectorConfig);
  await eventually(async () => (await ask("--config", demo.agentConfig))[0] === 0);
  const [, io] = await ask("--socket", fileOf(demo, "agent.sock"), "--json");
  const status = JSON.parse(io.out);
  assert.equal(status.state, "connected");
  assert.equal(status.pid, Deno.pid);
  assert.equal(status.relays[0].name, "relay-1");
  assert.ok(status.relays[0].rttMs > 0);
  assert.equal(status.relays[0].carrier, "quic");
  assert.ok(Date.parse(status.identity.expires) > Date.now());
  assert.ok(Date.parse(status.view.expires) > Date.now());

  await eventually(async () => (await ask("--config", demo.connectorConfig))[0] === 0);
  const [, offered] = await ask("--config", demo.connectorConfig);
  assert.match(offered.out, /^hello +healthy$/m);

  const { forwards } = JSON.parse(await Deno.readTextFile(demo.agentConfig));
  const [hostname, port] = forwards[0].listen.split(":");
  using client = await Deno.connect({ hostname, port: Number(port) });
  await client.write(Uint8Array.of(1));
  const hello = await eventually(async () => {
    const [, io] = await ask("--config", demo.agentConfig, "--json");
    const found = JSON.parse(io.out).services.find(({ name }: { name: string }) => name === "hello");
    return found?.flows === 1 && found;
  });
  assert.equal(hello.path.relay, "relay-1");
  assert.match(hello.path.connector, /^spiffe:/);
  assert.ok(Date.now() - Date.parse(hello.lastUsed) < 10_000);
  assert.match(hello.addresses.ipv4, /^10\.101\./);

  for (const node of [agent, connector, relay]) await node.shutdown("test over");
  const [gone, refused] = await ask("--config", demo.agentConfig);
  assert.equal(gone, 1);
  assert.match(refused.err, /No agent or connector[^]*ginnel run/);
});

Deno.test("status exits 1 for a socket where nobody listens, 2 for commands and configs that make no sense", async () => {
  const demo = await demoWithSockets();
  const rows: [string[], number, RegExp][] = [
    [["--socket", fileOf(demo, "none.sock")], 1, /No node listens/],
    [["--socket", "a", "--config", "b"], 2, /not both/],
    [["--config", demo.relayConfig], 2, /config of a relay/],
    [["--config", fileOf(demo, "none.json")], 2, /none\.json/],
    [["--nonsense"], 2, /Unknown flag/],
  ];
  for (const [args, expected, text] of rows) {
    const [code, io] = await ask(...args);
    assert.equal(code, expected, io.err);
    assert.match(io.err, text);
  }
  await editJson(demo.agentConfig, (config) => config.control = null);
  const [code, io] = await ask("--config", demo.agentConfig);
  assert.equal(code, 2);
  assert.match(io.err, /null/);
});

Deno.test("a listener that is no node of ours is said to be none", async () => {
  const path = `${await Deno.makeTempDir()}/web.sock`;
  await using _server = Deno.serve({ path, onListen: () => {} }, () => new Response("<html>"));
  const [code, io] = await ask("--socket", path);
  assert.equal(code, 1);
  assert.match(io.err, /tells no status/);
});
