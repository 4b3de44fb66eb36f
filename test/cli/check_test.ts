import assert from "node:assert/strict";
import { checkCommand } from "../../src/cli/check.ts";
import { type DemoFolder, editJson, fileOf, makeDemoFolder, Printed } from "./demo_folder.ts";

async function check(
  config: string,
  ...flags: string[]
): Promise<{ code: number; out: string; err: string }> {
  const io = new Printed();
  const code = await checkCommand(["--config", config, ...flags], io);
  return { code, out: io.out, err: io.err };
}

Deno.test("check accepts a right network and says what it found", async () => {
  const demo = await makeDemoFolder();
  for (const config of [demo.relayConfig, demo.connectorConfig, demo.agentConfig]) {
    const { code, out, err } = await check(config);
    assert.deepEqual([code, err], [0, ""], out);
    assert.ok(!out.includes("fail"), out);
    assert.match(out, /identity +spiffe:\/\/dev\.ginnel\.internal\/(relay|connector|agent)\//);
  }
  const { findings, verdict } = JSON.parse((await check(demo.relayConfig, "--json")).out);
  // The demo's identities live for a day, which is worth a warning.
  assert.equal(verdict, "warn");
  assert.deepEqual(findings.map(({ subject }: { subject: string }) => subject).sort(), [
    "authority",
    "config",
    "identity",
    "policy",
  ]);
});

Deno.test("check finds what run would refuse, names it and says what to do, exit code 2", async () => {
  const rows: [string, (demo: DemoFolder) => Promise<void>, RegExp][] = [
    [
      "readable key",
      (demo) => Deno.chmod(fileOf(demo, "relay-1.json"), 0o644),
      /fail +identity .*relay-1\.json[^]*chmod 600 /,
    ],
    [
      "missing identity",
      (demo) => Deno.remove(fileOf(demo, "relay-1.json")),
      /fail +identity .*relay-1\.json/,
    ],
    [
      "identity of another mode",
      (demo) => Deno.copyFile(fileOf(demo, "alice.json"), fileOf(demo, "relay-1.json")),
      /fail +identity .*agent\/alice is no identity of mode relay[^]*ginnel ca issue relay NAME/,
    ],
    [
      "broken policy",
      (demo) => Deno.writeTextFile(fileOf(demo, "policy.yaml"), "services:\n  - name: [\n"),
      /fail +policy .*policy\.yaml:\d+:\d+: /,
    ],
    [
      "misspelt role",
      (demo) =>
        Deno.writeTextFile(
          fileOf(demo, "policy.yaml"),
          "services: [{name: hello}]\nservicePolicies: [{name: p, type: Dial, identityRoles: ['@a'], serviceRoles: ['@helo'], semantic: AnyOf}]\n",
        ),
      /warn +policy .*@helo selects nothing/,
    ],
    [
      "foreign authority key",
      async (demo) => {
        const other = await makeDemoFolder();
        await Deno.copyFile(fileOf(other, "ca/authority.key"), fileOf(demo, "ca/authority.key"));
      },
      /fail +authority .*does not trust this key/,
    ],
    [
      "missing audit folder",
      (demo) => editJson(demo.relayConfig, (config) => config.audit = { file: "/nowhere/audit.jsonl" }),
      /fail +audit /,
    ],
  ];
  for (const [name, spoil, finding] of rows) {
    const demo = await makeDemoFolder();
    await spoil(demo);
    const { code, out } = await check(demo.relayConfig);
    assert.match(out, finding, name);
    assert.equal(code, out.includes("fail") ? 2 : 0, name);
  }
});

Deno.test("check prints no key material", async () => {
  const demo = await makeDemoFolder();
  await editJson(fileOf(demo, "relay-1.json"), (identity) => delete identity.trust);
  const { out, err } = await check(demo.relayConfig);
  assert.ok(!/PRIVATE KEY|MIG/.test(out + err), out + err);
});
