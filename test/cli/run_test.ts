import assert from "node:assert/strict";
import { ManagedProcess } from "../support/processes.ts";
import { type DemoFolder, editJson, fileOf, makeDemoFolder } from "./demo_folder.ts";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;

function startNode(config: string): ManagedProcess {
  return ManagedProcess.spawn([Deno.execPath(), "run", "--allow-all", MAIN, "run", "--config", config]);
}

async function healthOf(demo: DemoFolder): Promise<string> {
  return JSON.parse(await Deno.readTextFile(demo.relayConfig)).health;
}

Deno.test("run starts a relay, reloads on SIGHUP, and stops with exit code 0 on SIGTERM", async () => {
  const demo = await makeDemoFolder();
  await using relay = startNode(demo.relayConfig);
  await relay.waitForLine(/"event":"relay_started"/);
  const ready = await fetch(`http://${await healthOf(demo)}/ready`);
  assert.equal((await ready.json()).status, "ready");

  await Deno.writeTextFile(fileOf(demo, "policy.yaml"), "services: [\n");
  Deno.kill(relay.pid, "SIGHUP");
  await relay.waitForLine(/"event":"policy_refused".*policy\.yaml/);

  Deno.kill(relay.pid, "SIGTERM");
  const { code } = await relay.ended;
  assert.equal(code, 0);
  for (const line of relay.lines) JSON.parse(line);
});

Deno.test("a second signal stops a draining relay at once, exit code 1", async () => {
  const demo = await makeDemoFolder();
  const service = Deno.listen({ transport: "unix", path: demo.socket });
  await using relay = startNode(demo.relayConfig);
  await relay.waitForLine(/"event":"relay_started"/);
  await using _connector = startNode(demo.connectorConfig);
  await using agent = startNode(demo.agentConfig);
  await agent.waitForLine(/"event":"relay_connected"/);
  await relay.waitForLine(/"event":"service_bound"/);
  const { forwards } = JSON.parse(await Deno.readTextFile(demo.agentConfig));
  const [hostname, port] = forwards[0].listen.split(":");
  const client = await Deno.connect({ hostname, port: Number(port) });
  await client.write(Uint8Array.of(1));
  const upstream = await service.accept();

  Deno.kill(relay.pid, "SIGINT");
  await relay.waitForLine(/"event":"relay_draining"/);
  assert.equal(relay.running, true);
  Deno.kill(relay.pid, "SIGINT");
  assert.equal((await relay.ended).code, 1);
  client.close();
  upstream.close();
  service.close();
});

Deno.test("run says in one line why it cannot start: 2 for what was written, 1 for what the machine refuses", async () => {
  const rows: [number, RegExp, (demo: DemoFolder) => Promise<unknown>][] = [
    [
      2,
      /^ginnel run: .*relay-1\.json.* chmod 600 /,
      (demo) => Deno.chmod(fileOf(demo, "relay-1.json"), 0o640),
    ],
    [
      2,
      /policy\.yaml:1:\d+: /,
      (demo) => Deno.writeTextFile(fileOf(demo, "policy.yaml"), "nonsense: true\n"),
    ],
    [
      1,
      /^ginnel run: .*192\.0\.2\.1/,
      (demo) => editJson(demo.relayConfig, (config) => config.health = "192.0.2.1:1"),
    ],
  ];
  for (const [code, line, spoil] of rows) {
    const demo = await makeDemoFolder();
    await spoil(demo);
    await using relay = startNode(demo.relayConfig);
    assert.equal((await relay.ended).code, code, relay.lines.join("\n"));
    const spoken = relay.lines.filter((text) => !text.startsWith("{"));
    assert.equal(spoken.length, 1, relay.lines.join("\n"));
    assert.match(spoken[0]!, line);
  }
});

Deno.test("a stray rejection is logged and the process goes on", async () => {
  const from = (path: string) => JSON.stringify(import.meta.resolve(`../../src/${path}`));
  const script = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(
    script,
    `import { createLogger } from ${from("base/log.ts")};
     import { logStrayRejections } from ${from("cli/stray_rejections.ts")};
     logStrayRejections(createLogger());
     addEventListener("unhandledrejection", () => queueMicrotask(() => console.log("still here")));
     Promise.reject(new Error("Nobody awaits this"));`,
  );
  await using child = ManagedProcess.spawn([Deno.execPath(), "run", "--no-config", script]);
  assert.equal((await child.ended).code, 0, child.lines.join("\n"));
  assert.equal(child.lines.length, 2);
  assert.match(child.lines[0]!, /"event":"unhandled_rejection".*Nobody awaits this/);
  assert.equal(child.lines[1], "still here");
});
