/**
 * Secrets stay where they are: no log or audit line holds a key, a token, a view or a user's bytes, key files are
 * their owner's alone, and the program refuses one that is not.
 */

import assert from "node:assert/strict";
import { PROGRAM } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { askProxy, LocalClient, proxyStatus } from "../support/local_client.ts";
import { type AgentNode, Network } from "../support/network.ts";
import { ManagedProcess, runCommand } from "../support/processes.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { identityOf, RelayCaller } from "../support/relay_caller.ts";

/** What no line may contain, whatever the occasion. */
const SECRET_FORMS: Readonly<Record<string, RegExp>> = {
  "a private key": /PRIVATE KEY|"d" ?: ?"/,
  "a token or signed view": /eyJ[\w-]{10,}/,
  "credentials": /[Bb]earer +[\w-]/,
  "32 bytes of key in hexadecimal": /[0-9a-f]{64}/i,
};

Deno.test("no log or audit line holds a secret, at the finest level, in good days and bad", async () => {
  await using network = await Network.create({
    services: [{ name: "web" }, { name: "plain", endToEnd: "optional" }],
  });
  using upstream = new RecordingUpstream();
  const log = { log: { level: "trace" } };
  const relay = await network.relay({ config: log });
  const services = { web: upstream.url, plain: upstream.url, closed: "tcp://127.0.0.1:1" };
  const connector = await network.connector({ relays: [relay], services, config: log, untilBound: false });
  const agents: AgentNode[] = [];
  for (const carrier of ["quic", "tls", "auto"]) {
    const agent = await network.agent({
      name: `agent-${carrier}`,
      relays: [relay],
      forwards: ["web"],
      config: { ...log, carrier },
    });
    agents.push(agent);
    using client = await LocalClient.connect(agent.forward("web"));
    assert.equal(await client.ask("the user's own words"), "the user's own words");
    assert.equal(await proxyStatus(agent.httpProxy, "closed"), 403);
    assert.equal((await askProxy(agent.httpProxy, "no-such-service")).status, 403);
  }
  // Bad days: proofs of every sort that are refused, a broken policy, a reload, a right taken away.
  const alice = await identityOf(network.issue("agent", "alice"));
  await using caller = new RelayCaller(relay, network.root);
  const proof = await caller.proof(alice);
  for (const bad of [proof.slice(0, -9), `${proof}A`, proof.replace(".", "x."), proof, proof]) {
    await (await caller.dial()).view(bad);
  }
  await network.writePolicy('{"services": [');
  await relay.waitForLine(/"policy_refused"/);
  for (const node of [relay, connector, ...agents]) await node.reload();
  await network.writePolicy({ services: [], servicePolicies: [] });
  await eventually(async () => await proxyStatus(agents[0]!.httpProxy, "web") === 403);
  await eventually(async () => (await relay.audit()).filter(({ event }) => event === "close").length >= 3);
  for (const node of [...agents, connector, relay]) await node.stop();

  const lines = [relay, connector, ...agents].flatMap(({ lines }) => lines);
  const audit = (await Deno.readTextFile(`${network.folder}/relay-1.audit.jsonl`)).trim().split("\n");
  assert.ok(lines.length > 60 && audit.length > 6, "there was something to say");
  const keys = await secretsIn(network.folder);
  assert.equal(new Set(keys).size, 8, "the CA's, the authority's and those of six identities");
  for (const line of [...lines, ...audit]) {
    for (const [what, form] of Object.entries(SECRET_FORMS)) assert.doesNotMatch(line, form, what);
    for (const key of keys) assert.ok(!line.includes(key), "a part of a key");
    assert.doesNotMatch(line, /the user's own words/);
  }
  // The forms do fit what they are meant for.
  assert.match(`authorization: Bearer ${proof}`, SECRET_FORMS["credentials"]!);
  assert.match(proof, SECRET_FORMS["a token or signed view"]!);
  assert.match(alice.privateKeyPem, SECRET_FORMS["a private key"]!);
});

Deno.test("ca init and ca issue make key files that only their owner can read, and so is the audit log", async () => {
  const folder = await Deno.makeTempDir({ prefix: "ginnel-secrets-" });
  try {
    const ca = (...args: string[]) => runCommand([...PROGRAM, "ca", ...args], { cwd: folder });
    await ca("init", "--trust-domain", "test.example");
    await ca("issue", "agent", "alice", "-o", "alice.json");
    await ca("issue", "relay", "relay-1");
    const secret = await filesHolding(folder, /PRIVATE KEY|"d"/);
    assert.equal(secret.length, 4, `CA, authority, agent and relay, not ${secret.join(", ")}`);
    for (const path of secret) assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600, path);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  await using network = await Network.create();
  const relay = await network.relay();
  await using caller = new RelayCaller(relay, network.root);
  await (await caller.dial()).view();
  await eventually(async () => (await relay.audit()).length > 0);
  assert.equal((await Deno.stat(`${network.folder}/relay-1.audit.jsonl`)).mode! & 0o777, 0o600);
});

Deno.test("a key file that others can read stops every mode, with the command that mends it", async () => {
  await using network = await Network.create();
  const relay = await network.relay({ separate: true });
  const agent = await network.agent({ separate: true, relays: [relay] });
  const cases = [
    [relay, `${network.folder}/relay-1.identity.json`],
    [agent, `${network.folder}/alice.identity.json`],
    [relay, `${network.folder}/ca/authority.key`],
  ] as const;
  for (const [node] of cases) await node.stop();
  for (const [node, path] of cases) {
    for (const mode of [0o640, 0o604, 0o644]) {
      await Deno.chmod(path, mode);
      const run = ManagedProcess.spawn([
        ...PROGRAM,
        "run",
        "--config",
        `${network.folder}/${node.name}.config.json`,
      ]);
      const { code } = await run.ended;
      assert.equal(code, 2, `${path} with mode ${mode.toString(8)}`);
      assert.ok(run.lines.some((line) => line.includes(`chmod 600 ${path}`)), run.lines.join("\n"));
      assert.ok(!run.lines.some((line) => /PRIVATE KEY/.test(line)));
    }
    await Deno.chmod(path, 0o600);
  }
});

/** A telling part of every private key below a folder: PEM bodies and JWK members. */
async function secretsIn(folder: string): Promise<string[]> {
  const secrets: string[] = [];
  for (const path of await filesHolding(folder, /PRIVATE KEY|"d"/)) {
    const text = await Deno.readTextFile(path);
    const pem = /PRIVATE KEY-----(?:\n|\\n)([\w+/]{40})/.exec(text)?.[1];
    const jwk = /"d": ?"([\w-]{30,})"/.exec(text)?.[1];
    // The first characters of a PKCS #8 key are the same in all: what follows is the key's own.
    secrets.push(pem === undefined ? jwk! : text.slice(text.indexOf(pem) + 50, text.indexOf(pem) + 62));
  }
  return secrets;
}

async function filesHolding(folder: string, secret: RegExp): Promise<string[]> {
  const paths: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) paths.push(...await filesHolding(path, secret));
    else if (entry.isFile && secret.test(await Deno.readTextFile(path))) paths.push(path);
  }
  return paths;
}
