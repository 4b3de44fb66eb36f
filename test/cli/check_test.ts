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

const EGRESS = `
default_action: deny
clients:
  agent/alice:
    rules:
      - { id: office, type: ip_cidr, action: allow, destinations: [192.0.2.0/24] }
`;

/** Gives the demo's relay a tunnel, and an egress policy beside its config. */
async function addTunnel(
  demo: DemoFolder,
  { tunnel = {}, egress = EGRESS }: { readonly tunnel?: object; readonly egress?: string } = {},
): Promise<void> {
  await Deno.writeTextFile(fileOf(demo, "egress.yaml"), egress);
  await editJson(demo.relayConfig, (config) => config.tunnel = { policy: ["egress.yaml"], ...tunnel });
}

Deno.test("check reads a relay's tunnel settings, egress policy and leases", async () => {
  const demo = await makeDemoFolder();
  await addTunnel(demo);
  const { code, out } = await check(demo.relayConfig);
  assert.equal(code, 0, out);
  assert.match(
    out,
    /ok +tunnel +ginnel0, 10\.100\.0\.0\/24 for 253 clients, fd[0-9a-f:]+\/64 for .*, nat masquerade/,
  );
  assert.match(out, /ok +egress +1 clients, 1 rules, otherwise drop/);
  assert.match(out, /ok +leases +0 in .*leases\.jsonl/);
  // Only looked at.
  await assert.rejects(Deno.stat(fileOf(demo, "leases.jsonl")), Deno.errors.NotFound);
});

Deno.test("check finds what is wrong with a tunnel, exit code 2, and what is odd, exit code 0", async () => {
  const rule = (words: string) => `clients: { agent/alice: { rules: [${words}] } }\n`;
  const rows: [string, Parameters<typeof addTunnel>[1], number, RegExp][] = [
    ["no policy file", { tunnel: { policy: ["other.yaml"] } }, 2, /fail +egress .*other\.yaml: no such file/],
    [
      "a misspelt field",
      { egress: rule("{ id: a, type: ip_cidr, action: allow, destination: [192.0.2.1] }") },
      2,
      /fail +egress .*egress\.yaml:1:\d+: .*destination[^]*did you mean destinations\?/,
    ],
    [
      "an action that is none",
      { egress: rule("{ id: a, type: default, action: permit }") },
      2,
      /fail +egress .*egress\.yaml:1:\d+: .*action/,
    ],
    [
      "a reservation outside the pool that follows from the trust domain",
      { tunnel: { reservations: { "agent/alice": ["fd00::2"] } } },
      2,
      /fail +tunnel .*Cannot reserve fd00::2 for spiffe:\/\/dev\.ginnel\.internal\/agent\/alice/,
    ],
    [
      "the relay's own address reserved",
      { tunnel: { reservations: { alice: ["10.100.0.1"] } } },
      2,
      /fail +tunnel .*Cannot reserve 10\.100\.0\.1/,
    ],
    [
      "a folder for leases that is not there",
      { tunnel: { leases: "/nowhere/leases.jsonl" } },
      2,
      /fail +leases +\/nowhere is no folder[^]*tunnel\.leases/,
    ],
    [
      "a rule after the default",
      { egress: rule("{ id: a, type: default, action: deny }, { id: b, type: default, action: allow }") },
      0,
      /warn +egress +agent\/alice, rule b: never reached/,
    ],
    [
      "a destination that is never routed",
      { egress: rule("{ id: a, type: ip_cidr, action: allow, destinations: [127.0.0.0/8] }") },
      0,
      /warn +egress +agent\/alice, rule a: loopback/,
    ],
    [
      "an attribute that nobody has",
      { egress: `clients: { "#doctors": { rules: [{ id: a, type: default, action: allow }] } }\n` },
      0,
      /warn +egress +nobody has the attribute #doctors/,
    ],
  ];
  for (const [name, options, exit, finding] of rows) {
    const demo = await makeDemoFolder();
    await addTunnel(demo, options);
    const { code, out } = await check(demo.relayConfig);
    assert.match(out, finding, `${name}:\n${out}`);
    assert.equal(code, exit, name);
  }
});

Deno.test("check counts what it finds odd in an egress policy past the first ten", async () => {
  const demo = await makeDemoFolder();
  const rules = Array.from(
    { length: 14 },
    (_, i) => `{ id: r${i}, type: ip_cidr, action: allow, destinations: ["::1"] }`,
  );
  await addTunnel(demo, { egress: `clients: { "#all": { rules: [${rules.join(", ")}] } }\n` });
  const { out } = await check(demo.relayConfig);
  assert.equal(out.match(/rule r\d+: loopback/g)?.length, 10, out);
  assert.match(out, /warn +egress +4 more rules do nothing/);
});

Deno.test("check reads an agent's tunnel settings and the roots of its proxy", async () => {
  const demo = await makeDemoFolder();
  const proxy = { address: "proxy.example:443", serverName: "proxy.example", roots: "roots.pem" };
  const withTunnel = (tunnel: object) => editJson(demo.agentConfig, (config) => config.tunnel = tunnel);
  await withTunnel({ routes: ["192.0.2.0/24"], dns: ["192.0.2.53"], killSwitch: true });
  const plain = await check(demo.agentConfig);
  assert.equal(plain.code, 0, plain.out);
  assert.match(
    plain.out,
    /ok +tunnel +ginnel0, routes 192\.0\.2\.0\/24, with name servers, with kill switch/,
  );

  await withTunnel({ proxy });
  const missing = await check(demo.agentConfig);
  assert.equal(missing.code, 2);
  assert.match(missing.out, /fail +tunnel .*roots\.pem: no such file/);

  await Deno.writeTextFile(fileOf(demo, "roots.pem"), "nonsense\n");
  assert.match((await check(demo.agentConfig)).out, /fail +tunnel .*roots\.pem holds no certificate/);
});

Deno.test("check prints no key material", async () => {
  const demo = await makeDemoFolder();
  await editJson(fileOf(demo, "relay-1.json"), (identity) => delete identity.trust);
  const { out, err } = await check(demo.relayConfig);
  assert.ok(!/PRIVATE KEY|MIG/.test(out + err), out + err);
});
