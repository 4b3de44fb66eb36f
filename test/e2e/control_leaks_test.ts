/**
 * What a running network with a controller gives away, and to whom: lists show each caller what it may see, files are
 * their owner's alone, no log, output or answer holds a secret, and no enrolment token counts but a true one, once.
 */

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { main } from "../../src/cli/main.ts";
import { type Authority, createAuthority, loadAuthority } from "../../src/identity/authority.ts";
import { makeCsr } from "../../src/identity/csr.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { readJwsPayload, signJws } from "../../src/identity/jws.ts";
import { generateKeyPair } from "../../src/identity/key_pair.ts";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import { controllerClient } from "../../src/modes/enrol/controller_client.ts";
import { Printed } from "../cli/demo_folder.ts";
import { Stranger } from "../support/api_stranger.ts";
import { ControllerGround } from "../support/controller_ground.ts";
import { eventually } from "../support/eventually.ts";
import { LocalClient, proxyStatus } from "../support/local_client.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { tokenSecret } from "../support/token_secret.ts";

Deno.test("each list shows a caller what it may see, and an ordinary agent sees none", async () => {
  await using ground = await ControllerGround.create();
  const chief = await ground.enrol("agent", "chief");
  assert.equal((await ground.api("PATCH", `/identities/${chief.id}`, { adminRole: "operator" })).status, 200);
  const carol = await ground.invite("agent", "carol");
  await ground.make("/auth-providers", {
    name: "idp",
    issuer: "https://idp.example",
    clientId: "id-of-client",
  });
  await ground.make("/ipam/allocations", { client_id: "client", metadata: {} });
  const token = async (name: string, role: string, scopes: readonly string[] = []) =>
    String((await ground.make("/api-tokens", { name, role, scopes })).token);
  const relay = await loadIdentity((await ground.enrol("relay", "relay-1", { address: "127.0.0.1:1" })).path);
  const agent = await loadIdentity((await ground.enrol("agent", "plain")).path);
  const byToken = (text: string) => (path: string) => ground.api("GET", path, undefined, { token: text });
  using relayHttp = controllerClient(() => relay);
  using agentHttp = controllerClient(() => agent);
  using chiefHttp = controllerClient(() => chiefIdentity);
  const chiefIdentity = await loadIdentity(chief.path);
  const byProof = (http: typeof relayHttp) => (path: string) =>
    http.request({ method: "GET", path: `/api/v1${path}` });
  const collections = ["identities", "services", "configs", "service-policies", "policies", "trust-domains"];
  const presence = ["relays", "connectors", "sessions", "audit", "network"];
  const addresses = ["ipam/allocations", "ipam/stats"];
  const hidden = ["auth-providers", "api-tokens", `identities/${carol.id}/enrolments`];
  const all = [...collections, ...presence, ...addresses, ...hidden];
  const common = [...collections, ...presence, ...addresses];
  const enrolments = `identities/${carol.id}/enrolments`;
  const callers:
    readonly (readonly [who: string, get: ReturnType<typeof byToken>, sees: readonly string[]])[] = [
      ["admin", byToken(ground.token), all],
      ["viewer", byToken(await token("viewer", "viewer")), [...common, enrolments]],
      ["operator", byToken(await token("operator", "operator")), [...common, enrolments]],
      ["an operator's agent", byProof(chiefHttp), [...common, enrolments]],
      ["scoped", byToken(await token("scoped", "admin", ["services"])), ["services"]],
      ["relay", byProof(relayHttp), addresses],
      ["agent", byProof(agentHttp), []],
      ["nobody", byToken(""), []],
    ];
  const secrets = [carol.token, carol.token.split(".")[2]!, ...hashesIn(ground)];
  for (const [who, get, sees] of callers) {
    for (const path of all) {
      const { status, json } = await get(`/${path}`);
      const expected = sees.includes(path) ? 200 : ["agent", "nobody"].includes(who) ? 401 : 403;
      assert.equal(status, expected, `${who}: ${path}`);
      const text = JSON.stringify(json);
      for (const secret of secrets) assert.ok(!text.includes(secret), `${who}: ${path} tells a secret`);
      if (who === "admin") continue;
      for (const word of ["adminRole", "externalId", "id-of-client", "secretHash", '"before"']) {
        assert.ok(!text.includes(word), `${who}: ${path} tells ${word}`);
      }
    }
  }
  // A filter must not tell what the list does not.
  const viewer = callers[1]![1];
  assert.equal((await viewer("/identities?adminRole=operator")).status, 403);
  // Nothing but the documents that everybody may have is answered without a token.
  const [{ port }] = ground.controllers as [ControllerGround["controllers"][number]];
  for (const path of ["/enrolment/v1/ca", "/login/v1/providers", "/health", "/openapi.json"]) {
    const { status, text } = await Stranger.ask({ port, from: "127.0.0.80" }, { path });
    assert.equal(status, 200, path);
    assert.ok(!/carol|chief|PRIVATE/.test(text), path);
  }
});

Deno.test("files are their owner's alone, and no log, output or answer holds a secret", async () => {
  await using ground = await ControllerGround.create({ config: { log: { level: "trace" } } });
  using upstream = new RecordingUpstream();
  await ground.open(["web"]);
  const log = { log: { level: "trace" } };
  const relay = await ground.relay({ config: log });
  const connector = await ground.connector({ services: { web: upstream.url }, config: log });
  const alice = await ground.agent({ forwards: ["web"], config: log });
  using client = await LocalClient.connect(alice.forward("web"));
  assert.equal(await client.ask("alice's own words"), "alice's own words");
  assert.equal(await proxyStatus(alice.httpProxy, "nothing"), 403);
  // Bad days: refused tokens, proofs and enrolments, and the controller killed in between.
  const carol = await ground.invite("agent", "carol");
  const [controller] = ground.controllers as [ControllerGround["controllers"][number]];
  for (const token of [carol.token, ground.token.slice(0, -2), `${carol.token}x`]) {
    await Stranger.ask({ port: controller.port, from: "127.0.0.81" }, { path: "/api/v1/whoami", token });
    const body = { token, csr: "no request" };
    const enrol = { path: "/enrolment/v1/enrol", method: "POST", body };
    await Stranger.ask({ port: controller.port, from: "127.0.0.82" }, enrol);
  }
  const lines = [...controller.process.lines];
  await controller.kill();
  await controller.start();

  const printed: string[] = [];
  const ginnel = async (...args: string[]) => {
    const io = new Printed();
    assert.equal(await main(args, io), 0, `${args.join(" ")}: ${io.err}`);
    printed.push(io.out, io.err);
  };
  const { folder } = ground;
  const [tokenFile, config] = [`${folder}/admin.token`, `${folder}/controller-1.config.json`];
  await writeSecretFile(tokenFile, ground.token);
  await writeSecretFile(`${folder}/carol.token`, carol.token);
  const access = [
    "--controller",
    controller.url,
    "--ca",
    `${controller.data}/ca/ca.crt`,
    "--token-file",
    tokenFile,
  ];
  await ginnel("enroll", "--token-file", `${folder}/carol.token`, "-o", `${folder}/carol.json`, "--json");
  await ginnel("identity", "list", "--dir", folder, "--json");
  for (const word of ["show", "validate"]) await ginnel("identity", word, `${folder}/carol.json`, "--json");
  await ginnel("identity", "trust", `${folder}/carol.json`);
  await ginnel("ca", "show", "--dir", `${controller.data}/ca`, "--json");
  await ginnel("check", "--config", config, "--json");
  await ginnel("backup", "--config", config, "-o", `${folder}/backup`, "--json");
  await ginnel("audit", "query", "--config", config, "--limit", "500", "--json");
  await ginnel("audit", "verify", ...access, "--json");
  for (const path of ["api-tokens", "identities", "auth-providers", "network"]) {
    await ginnel("api", "GET", path, ...access);
  }
  for (const node of [alice, connector, relay]) await node.stop();

  const modes = await modesBelow(folder);
  const inData = modes.filter(({ path }) =>
    `${path}/`.startsWith(`${controller.data}/`) || path.includes("relay-1.data")
  );
  assert.ok(inData.length > 15);
  for (const { path, mode, isDirectory } of inData) {
    // Certificates and public keys are there to be handed out.
    const expected = isDirectory ? 0o700 : /\.(?:crt|pub)$/.test(path) ? 0o644 : 0o600;
    assert.equal(mode, expected, `${path} has mode ${mode.toString(8)}`);
  }
  const secretFiles = modes.filter(({ path }) =>
    /identity\.json|carol\.json|backup|\.token|audit\.jsonl/.test(path)
  );
  assert.ok(secretFiles.length > 8);
  for (const { path, mode } of secretFiles) assert.equal(mode, 0o600, `${path} has mode ${mode.toString(8)}`);

  lines.push(...controller.process.lines, ...[alice, connector, relay].flatMap(({ lines }) => [...lines]));
  // The one line that is meant to show a token is printed at the first start, and is no log line.
  const logged = lines.filter((line) => line.startsWith("{"));
  assert.ok(logged.length > 100);
  const secrets = [ground.token, carol.token, ...hashesIn(ground), ...await keysBelow(folder)];
  assert.ok(secrets.length > 8);
  const shown = [...logged, ...printed, await Deno.readTextFile(`${folder}/relay-1.audit.jsonl`)];
  for (const text of shown) {
    for (const secret of secrets) {
      for (const part of [secret, tokenSecret(secret)]) {
        assert.ok(!text.includes(part), text.slice(0, 200));
      }
    }
    assert.doesNotMatch(text, /PRIVATE KEY|[Bb]earer +[\w-]|alice's own words/);
  }
  const backup = await Deno.readFile(`${folder}/backup`);
  const plain = new TextDecoder("latin1").decode(backup);
  for (const key of await keysBelow(`${controller.data}/ca`)) {
    assert.ok(!plain.includes(key), "a key is in the backup");
  }
});

Deno.test("no enrolment token counts that lacks or bends a claim, is of another network, or was used", async () => {
  await using ground = await ControllerGround.create();
  const [{ data, port }] = ground.controllers as [ControllerGround["controllers"][number]];
  const { token, spiffeId, id } = await ground.invite("agent", "carol");
  const claims = readJwsPayload(token);
  // As the authority itself would sign it: the signature is not what is wrong.
  const authority = await loadAuthority(`${data}/ca/authority.key`);
  const sign = (change: object, { by = authority, typ = "ginnel-enrolment+jwt" } = {}) =>
    signJws({ ...claims, ...change }, { key: by.privateKey, header: { typ, kid: by.kid } });
  let callers = 0;
  const enrol = async (text: string) => {
    const csr = await makeCsr(await generateKeyPair(), spiffeId);
    const body = { token: text, csr };
    return (await Stranger.ask({ port, from: `127.0.3.${++callers}` }, {
      ...{ path: "/enrolment/v1/enrol", method: "POST", body },
    })).status;
  };
  const stranger = await createAuthority();
  const posing: Authority = { ...stranger, kid: authority.kid };
  await using other = await ControllerGround.create();
  const seconds = Math.floor(Date.now() / 1_000);
  const bad: Record<string, string> = {
    "no aud": await sign({ aud: undefined }),
    "another aud": await sign({ aud: "controller-1" }),
    "aud of several": await sign({ aud: ["enrolment", "x"] }),
    "no iss": await sign({ iss: undefined }),
    "another iss": await sign({ iss: "https://127.0.0.1:1" }),
    "iss of the other network": await sign({ iss: other.controllers[0]!.url }),
    "no exp": await sign({ exp: undefined }),
    "over": await sign({ exp: seconds - 1 }),
    "of the future": await sign({ iat: seconds + 3_600 }),
    "no sub": await sign({ sub: undefined }),
    "another's sub": await sign({ sub: "spiffe://test.example/agent/other" }),
    "a foreign sub": await sign({ sub: "spiffe://other.example/agent/carol" }),
    "a controller's sub": await sign({ sub: "spiffe://test.example/controller/controller-1" }),
    "no jti": await sign({ jti: undefined }),
    "a jti of nothing": await sign({ jti: "0".repeat(32) }),
    "not one-time": await sign({ em: "ca" }),
    "another purpose": await sign({}, { typ: "ginnel-proof+jwt" }),
    "a stranger's signature": await sign({}, { by: stranger }),
    "a stranger with the authority's kid": await sign({}, { by: posing }),
    "of another network": (await other.invite("agent", "carol")).token,
    "no signature": `${btoa('{"alg":"none"}').replaceAll("=", "")}.${token.split(".")[1]}.`,
  };
  for (const [what, text] of Object.entries(bad)) {
    assert.ok([400, 401, 403].includes(await enrol(text)), what);
  }
  const before = (await ground.api("GET", `/identities/${id}/enrolments`)).json as {
    data: { usedAt: unknown }[];
  };
  assert.deepEqual(
    before.data.map(({ usedAt }) => usedAt ?? null),
    [null],
    "none of that used the true one up",
  );
  const race = await Promise.all(Array.from({ length: 8 }, () => enrol(token)));
  assert.deepEqual(race.toSorted(), [200, ...Array(7).fill(401)], "of eight at once one gets in");
  await eventually(async () => await enrol(token) === 401);
});

/** Hashes of all API tokens. */
function hashesIn(ground: ControllerGround): string[] {
  using database = new DatabaseSync(`${ground.controllers[0]!.data}/ginnel.db`, { readOnly: true });
  return database.prepare("SELECT spec FROM api_tokens").all().map(({ spec }) =>
    JSON.parse(String(spec)).secretHash
  );
}

async function modesBelow(folder: string) {
  const found: { readonly path: string; readonly mode: number; readonly isDirectory: boolean }[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    found.push({ path, mode: (await Deno.lstat(path)).mode! & 0o777, isDirectory });
    if (isDirectory) found.push(...await modesBelow(path));
  }
  return found;
}

/** A telling part of every private key below a folder: PEM bodies and JWK members. */
async function keysBelow(folder: string): Promise<string[]> {
  const keys: string[] = [];
  for (const { path, isDirectory } of await modesBelow(folder)) {
    if (isDirectory || /\.db|backup/.test(path)) continue;
    const text = await Deno.readTextFile(path);
    for (const [, body] of text.matchAll(/PRIVATE KEY-----((?:\n|\\n|[\w+/=])+)-----/g)) {
      // The first characters of a PKCS #8 key are the same in all: what follows is the key's own.
      keys.push(body!.replaceAll(/\n|\\n/g, "").slice(60, 100));
    }
    for (const [, d] of text.matchAll(/"d": ?"([\w-]{30,})"/g)) keys.push(d!);
  }
  return keys;
}
