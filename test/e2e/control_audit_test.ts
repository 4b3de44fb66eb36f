/**
 * The audit log of a running network: what administrators, devices and flows did is in it, can be asked for, and holds
 * no secret; and whoever changes it behind the controller's back is found out, at the entry.
 */

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import type { AuditEntry } from "../../src/core/network/audit_entry.ts";
import { makeCsr } from "../../src/identity/csr.ts";
import { generateKeyPair } from "../../src/identity/key_pair.ts";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import { ControllerGround } from "../support/controller_ground.ts";
import { PROGRAM } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { LocalClient, proxyStatus } from "../support/local_client.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { tokenSecret } from "../support/token_secret.ts";

Deno.test("each change by an administrator is in the audit log, with who, before and after", async () => {
  await using ground = await ControllerGround.create();
  const [root] = await ground.roots();
  const who = `token:${tokenId(ground.token)}`;
  const issuer = "https://idp.example";
  const roles = { identityRoles: ["#all"], serviceRoles: ["#all"] };
  const kinds:
    readonly (readonly [path: string, kind: string, made: object, edit: Record<string, unknown>])[] = [
      ["services", "service", { name: "a" }, { roleAttributes: ["x"] }],
      [
        "configs",
        "config",
        { name: "a", type: "host.v1", data: { address: "a", port: 1, protocol: "tcp" } },
        { data: { address: "b", port: 2, protocol: "udp" } },
      ],
      ["service-policies", "service-policy", { name: "a", type: "Dial", ...roles }, {
        identityRoles: ["#x"],
      }],
      ["identities", "identity", { name: "a", type: "agent" }, { adminRole: "viewer" }],
      ["trust-domains", "trust-domain", { name: "partner.example", roots: [root] }, { disabled: true }],
      ["auth-providers", "auth-provider", { name: "a", issuer, clientId: "c" }, { requireMatch: false }],
    ];
  for (const [path, kind, made, edit] of kinds) {
    const { id, name } = await ground.make(`/${path}`, made);
    assert.equal((await ground.api("PATCH", `/${path}/${id}`, edit)).status, 200, path);
    assert.equal((await ground.api("DELETE", `/${path}/${id}`)).status, 204, path);
    const entries = await audit(ground, { service: `${kind}/${name}`, event: "admin", identity: who });
    assert.deepEqual(entries.map(({ detail }) => detail.action), ["delete", "update", "create"], path);
    const [removed, updated, created] = entries.map(({ detail }) => detail) as Record<string, Spec>[];
    const [[field, value]] = Object.entries(edit) as [[string, unknown]];
    assert.deepEqual(updated!.after![field], value, path);
    assert.notDeepEqual(updated!.before![field], value, path);
    assert.deepEqual([created!.before, removed!.after], [undefined, undefined]);
    assert.deepEqual([created!.after, removed!.before], [updated!.before, updated!.after], path);
    for (const { outcome, source, time } of entries) {
      assert.deepEqual([outcome, source], ["ok", "spiffe://test.example/controller/controller-1"]);
      assert.ok(Math.abs(Date.now() - time) < 60_000);
    }
  }
  // What is no plain change: each by its own word.
  const { id } = await ground.make("/identities", { name: "b", type: "agent" });
  await ground.make(`/identities/${id}/enrolments`, {});
  for (const action of ["disable", "enable", "reset"]) {
    assert.equal((await ground.api("POST", `/identities/${id}/${action}`)).status, 200, action);
  }
  const policy = await ground.make("/policies", { name: "egress", document: { clients: {} } });
  for (const verb of ["activate", "deactivate"]) {
    assert.equal((await ground.api("POST", `/policies/${policy.id}/${verb}`)).status, 200, verb);
  }
  const viewer = await ground.make("/api-tokens", { name: "viewer", role: "viewer" });
  const refused = await ground.api("POST", "/services", { name: "x" }, { token: String(viewer.token) });
  assert.equal(refused.status, 403);
  assert.equal((await ground.api("DELETE", `/api-tokens/${viewer.id}`)).status, 204);
  await ground.make("/ipam/allocations", { client_id: "client" });
  assert.equal((await ground.api("DELETE", "/ipam/allocations/client")).status, 204);
  const actions = async (service: string, identity = who) =>
    (await audit(ground, { service, identity })).map(({ detail }) => String(detail.action)).reverse();
  assert.deepEqual(await actions("identity/b"), ["create", "create-enrolment", "update", "update", "reset"]);
  assert.deepEqual(await actions("egress-policy/egress@1"), ["create", "activate", "deactivate"]);
  assert.deepEqual(await actions("api-token/viewer"), ["create", "delete"]);
  assert.deepEqual(await actions("address/client"), ["allocate", "release"]);
  assert.deepEqual(await actions("POST services", `token:${viewer.id}`), ["denied"], "a refusal too");
});

Deno.test("flows and enrolments, granted and refused, are in the audit log, can be asked for, and leave no secret there", async () => {
  await using ground = await ControllerGround.create();
  using upstream = new RecordingUpstream();
  await ground.open(["web"]);
  const relay = await ground.relay();
  const connector = await ground.connector({ services: { web: upstream.url } });
  const alice = await ground.agent({ forwards: ["web"] });
  const sizes = [1_000, 20_000, 300_000];
  for (const size of sizes) {
    using client = await LocalClient.connect(alice.forward("web"));
    assert.equal((await client.ask("x".repeat(size))).length, size);
  }
  const closed = await eventually(async () => {
    const entries = await audit(ground, { event: "close", identity: alice.spiffeId, service: "web" });
    return entries.length === sizes.length && entries.reverse();
  });
  const opened = (await audit(ground, { event: "connect", service: "web", outcome: "open" })).reverse();
  assert.equal(opened.length, sizes.length);
  for (const [index, { detail, source, who }] of closed.entries()) {
    // Sealing adds a little; nobody between the two could tell how little.
    for (const bytes of [detail.bytesIn, detail.bytesOut].map(Number)) {
      assert.ok(bytes >= sizes[index]! && bytes < sizes[index]! * 1.1 + 5_000, `${bytes}`);
    }
    assert.deepEqual([source, who, detail.connector], [relay.spiffeId, alice.spiffeId, connector.spiffeId]);
    assert.ok(opened.some((entry) => entry.detail.flow === detail.flow && entry.time <= closed[index]!.time));
  }
  const between = Date.now() + 1;
  await eventually(() => Date.now() > between);
  assert.equal(await proxyStatus(alice.httpProxy, "nothing"), 403);

  // Enrolments: one that is granted, and each way to be refused.
  const bob = await ground.invite("agent", "bob");
  const enrol = async (token: string, spiffeId = bob.spiffeId) => {
    const json = { token, csr: await makeCsr(await generateKeyPair(), spiffeId) };
    const answer = await ground.api("POST", "/enrolment/v1/enrol", json, { token: "" });
    return answer.status;
  };
  const elsewhere = await ControllerGround.create();
  const foreign = await elsewhere.invite("agent", "bob");
  await elsewhere[Symbol.asyncDispose]();
  const carol = await ground.invite("agent", "carol");
  const taken = await ground.invite("agent", "taken");
  assert.equal((await ground.api("DELETE", `/identities/${taken.id}/enrolments`)).status, 204);
  const altered = carol.token.replace(/.(?=.{9}$)/, (digit) => digit === "A" ? "B" : "A");
  const statuses = [
    await enrol(altered),
    await enrol(foreign.token),
    await enrol(carol.token, "spiffe://test.example/agent/other"),
    await enrol(taken.token, taken.spiffeId),
    await enrol(bob.token),
    await enrol(bob.token),
  ];
  assert.deepEqual(statuses.map((status) => status === 200), [false, false, false, false, true, false]);
  const enrolments = (await audit(ground, { event: "enrol", since: isoTime(between) })).reverse();
  assert.deepEqual(enrolments.map(({ who, outcome, detail }) => [who, outcome, detail.reason ?? null]), [
    ["unknown", "denied", "token"],
    ["unknown", "denied", "token"],
    [carol.spiffeId, "denied", "csr"],
    [taken.spiffeId, "denied", "token-unknown"],
    [bob.spiffeId, "ok", null],
    [bob.spiffeId, "denied", "token-used"],
  ]);
  assert.ok(enrolments.every(({ detail }) => detail.remote === "127.0.0.1"));

  // By time, on both sides of a moment; by what came of it; by page.
  const everything = await audit(ground, {});
  const [early, late] = [
    await audit(ground, { until: isoTime(between) }),
    await audit(ground, { since: isoTime(between) }),
  ];
  assert.ok(early.every(({ time }) => time < between) && late.every(({ time }) => time >= between));
  assert.deepEqual([...late, ...early].map(({ seq }) => seq), everything.map(({ seq }) => seq));
  const denied = await audit(ground, { outcome: "denied" });
  assert.deepEqual(denied, everything.filter(({ outcome }) => outcome === "denied"));
  const pages: AuditEntry[] = [];
  for (let cursor: string | null = "999999"; cursor !== null;) {
    const { json } = await ground.api("GET", `/audit?limit=7&cursor=${cursor}`);
    const page = json as { data: AuditEntry[]; meta: { cursor: string | null } };
    pages.push(...page.data);
    cursor = page.meta.cursor;
  }
  assert.deepEqual(pages, everything);
  const query = ["--event", "close", "--who", alice.spiffeId, "--service", "web", "--since", "10m", "--json"];
  const asked = await ginnel(["audit", "query", ...await remote(ground), ...query]);
  assert.deepEqual(JSON.parse(asked.out).entries, closed.toReversed());

  // Not a token, hash or key of all that there are.
  const secrets = [ground.token, ...[bob, carol, taken, foreign].map(({ token }) => token)]
    .flatMap((token) => [token, tokenSecret(token)]);
  const stored = await storedSecrets(ground);
  assert.ok(stored.length >= 7, "of CA, authority, controller, three nodes, and a token's hash");
  secrets.push(...stored);
  const text = JSON.stringify(everything);
  for (const secret of secrets) assert.ok(!text.includes(secret), "a secret is in the audit log");
  const verified = await ginnel(["audit", "verify", ...await remote(ground)]);
  assert.deepEqual([verified.code, verified.out.split(" ")[0]], [0, String(everything.length)]);
});

Deno.test("whoever alters, removes, moves or cuts off entries in the database is found out, at the entry", async () => {
  await using ground = await ControllerGround.create();
  for (let n = 0; n < 20; n++) await ground.make("/services", { name: `service-${n}` });
  const [controller] = ground.controllers;
  await controller!.process.stop();
  const file = `${controller!.data}/ginnel.db`;
  const whole = await ginnel(["audit", "verify", "--config", `${ground.folder}/controller-1.config.json`]);
  const [, head, last] = /head ([0-9a-f]{64}@(\d+))\n$/.exec(whole.out)!;
  assert.equal(whole.code, 0);
  assert.ok(Number(last) >= 20);
  assert.ok(
    controller!.process.lines.some((line) => line.includes(head!)),
    "the log of the controller names it",
  );
  const end = Number(last) - 3;
  const cases: readonly (readonly [what: string, sql: string, says: RegExp, flags?: readonly string[]])[] = [
    ["altered", "UPDATE audit SET who = 'token:other' WHERE seq = 10", /^Entry 10 .*was changed/],
    ["hashed anew", "UPDATE audit SET hash = upper(hash) WHERE seq = 10", /^Entry 10 .*was changed/],
    ["removed", "DELETE FROM audit WHERE seq = 10", /^Entry 11 .*an entry before it is missing/],
    [
      "reordered",
      "UPDATE audit SET seq = -1 WHERE seq = 10; UPDATE audit SET seq = 10 WHERE seq = 11; UPDATE audit SET seq = 11 WHERE seq = -1",
      /^Entry 10 .*was changed/,
    ],
    ["cut off", `DELETE FROM audit WHERE seq > ${end}`, new RegExp(`^Entry ${end + 1} .*ends before it`)],
    [
      "cut off, and the note of it set back",
      `DELETE FROM audit WHERE seq > ${end};
        UPDATE audit_head SET seq = ${end}, hash = (SELECT hash FROM audit WHERE seq = ${end})`,
      new RegExp(`^Entry ${end + 1} .*ends before it`),
      ["--head", head!],
    ],
  ];
  for (const [what, sql, says, flags = []] of cases) {
    const config = await copyOf(ground, file, what.replaceAll(/\W/g, "-"));
    using database = new DatabaseSync(config.database);
    // The database itself says no; whoever owns it can take that away.
    assert.throws(() => database.exec(sql), /append-only/, what);
    database.exec(`DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete; ${sql}`);
    const { code, out } = await ginnel(["audit", "verify", "--config", config.path, ...flags]);
    assert.match(out, says, what);
    assert.equal(code, 1, what);
  }
  // The same through the API of a controller that runs on it.
  using database = new DatabaseSync(file);
  database.exec(`DROP TRIGGER audit_no_update; ${cases[0]![1]}`);
  await controller!.start();
  const { code, out } = await ginnel(["audit", "verify", ...await remote(ground)]);
  assert.match(out, cases[0]![2]);
  assert.equal(code, 1);
});

type Spec = Readonly<Record<string, unknown>> | undefined;

/** Up to 500 entries that fit, newest first. */
async function audit(
  ground: ControllerGround,
  filter: Readonly<Record<string, string>>,
): Promise<AuditEntry[]> {
  const { status, json } = await ground.api(
    "GET",
    `/audit?${new URLSearchParams({ ...filter, limit: "500" })}`,
  );
  assert.equal(status, 200, JSON.stringify(json));
  return (json as { readonly data: AuditEntry[] }).data;
}

/** The id in an API token's text. */
function tokenId(token: string): string {
  return token.split("_")[1]!;
}

function isoTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

/** Flags that reach the API as the ground's administrator. */
async function remote(ground: ControllerGround): Promise<string[]> {
  const [controller] = ground.controllers;
  const tokenFile = `${ground.folder}/admin.token`;
  await writeSecretFile(tokenFile, ground.token, { replace: true });
  const ca = `${controller!.data}/ca/ca.crt`;
  return ["--controller", controller!.url, "--ca", ca, "--token-file", tokenFile];
}

async function ginnel(args: readonly string[]): Promise<{ readonly code: number; readonly out: string }> {
  const [program, ...rest] = PROGRAM;
  const { code, stdout } = await new Deno.Command(program!, { args: [...rest, ...args] }).output();
  return { code, out: new TextDecoder().decode(stdout) };
}

/** A copy of a database that no controller has open, and a config that names it. */
async function copyOf(ground: ControllerGround, file: string, name: string) {
  const database = `${ground.folder}/${name}.db`;
  const path = `${ground.folder}/${name}.json`;
  await Deno.copyFile(file, database);
  const config = JSON.parse(await Deno.readTextFile(`${ground.folder}/controller-1.config.json`));
  await Deno.writeTextFile(path, JSON.stringify({ ...config, database: { kind: "sqlite", path: database } }));
  return { database, path };
}

/** Parts of every private key in the ground's folder, and of every hash of a token in the database. */
async function storedSecrets(ground: ControllerGround): Promise<string[]> {
  const secrets: string[] = [];
  const { data } = ground.controllers[0]!;
  for (const folder of [ground.folder, data, `${data}/ca`]) {
    for await (const { name, isFile } of Deno.readDir(folder)) {
      if (!isFile || /\.db/.test(name)) continue;
      const text = await Deno.readTextFile(`${folder}/${name}`);
      for (const [, body] of text.matchAll(/PRIVATE KEY-----((?:\n|\\n|[\w+/=])+)-----/g)) {
        // The first characters of a PKCS #8 key are the same in all: what follows is the key's own.
        secrets.push(body!.replaceAll(/\n|\\n/g, "").slice(60, 100));
      }
      for (const [, d] of text.matchAll(/"d": ?"([\w-]{30,})"/g)) secrets.push(d!);
    }
  }
  using database = new DatabaseSync(`${data}/ginnel.db`, { readOnly: true });
  for (const { spec } of database.prepare("SELECT spec FROM api_tokens").all()) {
    secrets.push(JSON.parse(String(spec)).secretHash);
  }
  return secrets;
}
