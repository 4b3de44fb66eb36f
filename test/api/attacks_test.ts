/** Attacks on the controller's API, among them one for each class of OpenZiti's advisories that an API can have. */

import assert from "node:assert/strict";
import { base64url } from "jose";
import { signJws } from "../../src/identity/jws.ts";
import { encodeBase64 } from "../../src/identity/pem.ts";
import type { Identity } from "../../src/identity/identity_file.ts";
import { PROOF_TYPE } from "../../src/identity/proof.ts";
import { generateKeys } from "../identity/forge.ts";
import { ApiGround, CONTROLLER } from "./api_ground.ts";
import { talkRaw } from "./raw_http.ts";

const JSON_POST = "Content-Type: application/json\r\n";

Deno.test("a body without end is not read before authentication: the refusal comes at once", async () => {
  await using ground = await ApiGround.start();
  for (const path of ["/api/v1/services", "/api/v1/policies", "/test/v1/size"]) {
    const head = `POST ${path} HTTP/1.1\r\nHost: c\r\n${JSON_POST}Transfer-Encoding: chunked\r\n\r\n`;
    const answer = await talkRaw(ground.port, { head, chunks: 1, expectEnd: false });
    assert.match(answer.text, /^HTTP\/1\.1 401 /, path);
  }
});

Deno.test("a body larger than allowed ends the request, declared or not, also behind authentication", async () => {
  await using ground = await ApiGround.start();
  const post = `POST /api/v1/services HTTP/1.1\r\nHost: c\r\n${JSON_POST}`;
  const bearer = `Authorization: Bearer ${ground.token}\r\n`;
  // Declared: refused by the header alone, before authentication.
  const declared = await talkRaw(ground.port, {
    head: `${post}Content-Length: 1000000000\r\n\r\n`,
    chunks: 0,
  });
  assert.match(declared.text, /^HTTP\/1\.1 413 /);
  // Not declared: counted while it comes.
  const head = `${post}${bearer}Transfer-Encoding: chunked\r\n\r\n`;
  const streamed = await talkRaw(ground.port, { head, chunks: 10_000 });
  assert.match(streamed.text, /^HTTP\/1\.1 413 /);
  assert.ok(streamed.sent < 8 * 1024 * 1024, `${streamed.sent} bytes were taken`);
  assert.match(streamed.text, /"urn:ginnel:problem:too-large"/);
});

Deno.test("a policy may be larger than other bodies, up to its own bound", async () => {
  await using ground = await ApiGround.start();
  const name = "x".repeat(200_000);
  const other = await ground.call("POST", "/services", { body: { name } });
  assert.equal(other.status, 413);
  const policy = { name: "p", document: { clients: {}, note: name } };
  assert.equal((await ground.call("POST", "/policies", { body: policy })).status, 400);
  const huge = JSON.stringify({ name: "p", document: { note: "x".repeat(5_000_000) } });
  assert.equal((await ground.call("POST", "/policies", { body: huge })).status, 413);
});

Deno.test("a body that never ends in time is given up", async () => {
  await using ground = await ApiGround.start({ limits: { bodyTimeoutMs: 50 } });
  const head = `POST /api/v1/services HTTP/1.1\r\nHost: c\r\n${JSON_POST}Content-Length: 100\r\n` +
    `Authorization: Bearer ${ground.token}\r\n\r\n{"name":`;
  const answer = await talkRaw(ground.port, { head, chunks: 0 });
  assert.match(answer.text, /^HTTP\/1\.1 408 /);
});

Deno.test("bodies that are not plain JSON of sane shape are refused [RFC9110-8.6]", async () => {
  await using ground = await ApiGround.start();
  const post = (body: string, headers: Record<string, string> = {}) =>
    ground.call("POST", "/services", { body, headers });
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]) {
    assert.equal((await post("{}", { "content-type": type })).status, 415, type);
  }
  assert.equal((await post("{}", { "content-encoding": "gzip" })).status, 415);
  for (const body of ["", "{", "null", "[]", "1", '{"name":"a"} {}', "[".repeat(60_000)]) {
    assert.equal((await post(body)).status, 400, body.slice(0, 20));
  }
  const deep = `{"name":"a","tags":${'{"a":'.repeat(5_000)}1${"}".repeat(5_000)}}`;
  assert.match((await post(deep)).json.detail, /nested/);
  const polluted = await post('{"name":"a","tags":{"\\u005f_proto__":{"admin":true}}}');
  assert.match(polluted.json.detail, /__proto__/);
  const nonsense = `POST /api/v1/services HTTP/1.1\r\nHost: c\r\n${JSON_POST}Content-Length: 1e3\r\n` +
    `Authorization: Bearer ${ground.token}\r\n\r\n`;
  assert.match((await talkRaw(ground.port, { head: nonsense, chunks: 0 })).text, /^HTTP\/1\.1 400 /);
});

Deno.test("a request without content type cannot slip past its schema", async () => {
  await using ground = await ApiGround.start();
  const body = '{"name":"a"}';
  const head =
    `POST /api/v1/services HTTP/1.1\r\nHost: c\r\nConnection: close\r\nContent-Length: ${body.length}\r\n` +
    `Authorization: Bearer ${ground.token}\r\n\r\n${body}`;
  assert.match((await talkRaw(ground.port, { head, chunks: 0 })).text, /^HTTP\/1\.1 415 /);
  assert.equal((await ground.call("POST", "/services")).status, 400);
  assert.equal((await ground.call("GET", "/services")).json.meta.total, 0);
});

Deno.test("header fields and addresses of request beyond all need are refused", async () => {
  await using ground = await ApiGround.start();
  const large = { headers: { "x-fill": "x".repeat(20_000) }, token: null };
  assert.equal((await ground.call("GET", "//health", large)).status, 431);
  assert.equal((await ground.call("GET", `//health?${"x".repeat(9_000)}`, { token: null })).status, 431);
});

Deno.test("no header field makes anybody somebody", async () => {
  await using ground = await ApiGround.start();
  const { identity } = await ground.node("agent", "root", { adminRole: "admin" });
  const claims = {
    "x-forwarded-user": identity.id.uri,
    "x-spiffe-id": identity.id.uri,
    "x-client-cert": encodeURIComponent(identity.certificatePem),
    "x-ssl-client-cert": encodeURIComponent(identity.certificatePem),
    "x-ssl-client-verify": "SUCCESS",
    "x-forwarded-client-cert": `URI=${identity.id.uri}`,
    "client-cert": `:${encodeBase64(identity.chainDer[0]!)}:`,
    "zt-session": "token",
    cookie: `token=${ground.token}`,
  };
  const naked = await ground.call("GET", "/whoami", { token: null, headers: claims });
  assert.equal(naked.status, 401);
  const viewer = await ground.tokenOf("viewer");
  const dressed = await ground.call("GET", "/whoami", { token: viewer, headers: claims });
  assert.equal(dressed.json.role, "viewer");
  assert.equal(
    (await ground.call("GET", `/whoami?access_token=${ground.token}`, { token: null })).status,
    401,
  );
});

Deno.test("an address is limited by its connection, whatever it says of itself", async () => {
  await using ground = await ApiGround.start({ limits: { admin: { perSecond: 1, burst: 6 } } });
  const statuses: number[] = [];
  for (let i = 0; i < 8; i++) {
    const headers = {
      "x-forwarded-for": `203.0.113.${i}`,
      forwarded: `for=203.0.113.${i}`,
      "x-real-ip": `192.0.2.${i}`,
    };
    const { status, headers: answered } = await ground.call("GET", "/version", { headers });
    statuses.push(status);
    if (status === 429) assert.match(answered.get("retry-after") ?? "", /^[1-9][0-9]*$/);
  }
  assert.deepEqual(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
  ground.now += 1_000;
  assert.equal((await ground.call("GET", "/version")).status, 200);
});

Deno.test("guessing tokens runs out of tries long before other requests would", async () => {
  await using ground = await ApiGround.start({ limits: { admin: { perSecond: 1, burst: 40 } } });
  let tries = 0;
  while ((await ground.call("GET", "/version", { token: "gnl_guess" })).status === 401) tries++;
  assert.ok(tries <= 5, `${tries} tries`);
});

Deno.test("one caller is limited on all its connections together", async () => {
  await using ground = await ApiGround.start({ limits: { principal: { perSecond: 1, burst: 3 } } });
  const viewer = await ground.tokenOf("viewer");
  const answers = await Promise.all(
    Array.from({ length: 6 }, () => ground.call("GET", "/version", { token: viewer })),
  );
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 200, 200, 429, 429, 429]);
});

Deno.test("who shows no token, a broken or a foreign one is told how to authenticate, and no more [RFC9110-15.5.2]", async () => {
  await using ground = await ApiGround.start();
  const id = ground.token.slice(4, 40);
  const wrong = [
    null,
    "x",
    ground.token.slice(0, -1),
    `${ground.token.slice(0, -1)}${ground.token.endsWith("A") ? "B" : "A"}`,
    ground.token.replace(id, crypto.randomUUID()),
    ground.token.toUpperCase(),
    `gnl_${id}_`,
    "gnl_" + "x".repeat(9_000),
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
  ];
  for (const token of wrong) {
    const { status, headers, json } = await ground.call("GET", "/whoami", { token });
    assert.equal(status, 401, String(token));
    assert.equal(headers.get("www-authenticate"), 'Bearer realm="ginnel"');
    assert.equal(json.type, "urn:ginnel:problem:unauthenticated");
  }
  const unknown = await ground.call("GET", "/nothing", { token: null });
  assert.equal(unknown.status, 401, "what exists is not told either");
});

Deno.test("the scheme's case does not matter, all else about the field does [RFC6750-2.1] [RFC9110-11.1]", async () => {
  await using ground = await ApiGround.start();
  const status = async (authorization: string) =>
    (await ground.call("GET", "/whoami", { token: null, headers: { authorization } })).status;
  assert.equal(await status(`bearer ${ground.token}`), 200);
  assert.equal(await status(`BEARER  ${ground.token}`), 200);
  for (
    const field of [
      ground.token,
      `Basic ${ground.token}`,
      `Bearer${ground.token}`,
      `Bearer ${ground.token} x`,
    ]
  ) {
    assert.equal(await status(field), 401, field);
  }
});

Deno.test("a proof counts only for this controller, once, by the leaf's key, of an identity that has a role", async () => {
  await using ground = await ApiGround.start();
  const root = await ground.node("agent", "root", { adminRole: "admin" });
  const plain = await ground.node("agent", "plain");
  const whoami = (token: string) => ground.call("GET", "/whoami", { token });
  const good = await ground.prove(root.identity);
  assert.deepEqual((await whoami(good)).json, { who: root.identity.id.uri, role: "admin", scopes: [] });
  assert.equal((await whoami(good)).status, 401, "replayed");
  for (const audience of ["controller-2", "relay-1", "enrolment", "", root.identity.id.uri]) {
    assert.equal((await whoami(await ground.prove(root.identity, audience))).status, 401, `aud ${audience}`);
  }
  assert.equal((await whoami(await ground.prove(plain.identity))).status, 401, "without a role");

  const claims = (change: Record<string, unknown> = {}) => ({
    iss: root.identity.id.uri,
    sub: root.identity.id.uri,
    aud: CONTROLLER,
    iat: Math.floor(ground.now / 1_000),
    exp: Math.floor(ground.now / 1_000) + 30,
    jti: base64url.encode(crypto.getRandomValues(new Uint8Array(16))),
    ...change,
  });
  const x5c = root.identity.chainDer.map(encodeBase64);
  const ca = encodeBase64(new Uint8Array(await derOf(ground.network.ca.certificatePem)));
  const forged = (key: CryptoKey, chain: readonly string[], change?: Record<string, unknown>) =>
    signJws(claims(change), { key, header: { typ: PROOF_TYPE, x5c: [...chain] } });
  const stranger = (await generateKeys()).privateKey;
  assert.equal(
    (await whoami(await forged(root.identity.privateKey, x5c))).status,
    200,
    "the forger can make good ones",
  );
  assert.equal(
    (await whoami(await forged(stranger, x5c))).status,
    401,
    "a certificate seen is not a key held",
  );
  const ownX5c = plain.identity.chainDer.map(encodeBase64);
  const mine = plain.identity.privateKey;
  assert.equal((await whoami(await forged(mine, [...ownX5c, ...x5c]))).status, 401, "not the leaf");
  assert.equal((await whoami(await forged(mine, [...x5c, ...ownX5c]))).status, 401, "another's leaf");
  assert.equal(
    (await whoami(await forged(ground.network.ca.privateKey, [ca]))).status,
    401,
    "the CA is nobody",
  );
  assert.equal((await whoami(await forged(mine, ownX5c))).status, 401, "another's name in the claims");
  assert.equal(
    (await whoami(await forged(root.identity.privateKey, x5c, { aud: undefined }))).status,
    401,
    "no aud",
  );
  assert.equal(
    (await whoami(await forged(root.identity.privateKey, x5c, { aud: [CONTROLLER, "x"] }))).status,
    401,
  );
});

Deno.test("a disabled, deleted or revoked identity is nobody at once, at every door", async () => {
  await using ground = await ApiGround.start();
  const attempts = async (identity: Identity) => {
    const admin = await ground.call("GET", "/whoami", { token: await ground.prove(identity) });
    const node = await ground.call("GET", "//test/v1/whoami", { token: await ground.prove(identity) });
    return [admin.status, node.status];
  };
  const one = await ground.node("agent", "one", { adminRole: "viewer" });
  const two = await ground.node("agent", "two", { adminRole: "viewer" });
  const three = await ground.node("agent", "three", { adminRole: "viewer" });
  for (const { identity } of [one, two, three]) assert.deepEqual(await attempts(identity), [200, 200]);
  assert.equal((await ground.call("POST", `/identities/${one.resource.id}/disable`)).status, 200);
  assert.deepEqual(await attempts(one.identity), [401, 401]);
  assert.equal((await ground.call("POST", `/identities/${one.resource.id}/enable`)).status, 200);
  assert.deepEqual(await attempts(one.identity), [401, 401], "its certificate stays revoked");
  assert.equal((await ground.call("DELETE", `/identities/${two.resource.id}`)).status, 204);
  assert.deepEqual(await attempts(two.identity), [401, 401]);
  await ground.make("/identities", { name: "two", type: "agent", adminRole: "viewer" });
  assert.deepEqual(await attempts(two.identity), [401, 401], "a new identity of that name is another's");
  assert.equal((await ground.call("POST", `/identities/${three.resource.id}/reset`)).status, 200);
  assert.deepEqual(await attempts(three.identity), [401, 401]);
});

Deno.test("routes of nodes admit only the kinds they name", async () => {
  await using ground = await ApiGround.start();
  const agent = await ground.node("agent", "a");
  const connector = await ground.node("connector", "c");
  const ask = async (token: string | null) => await ground.call("GET", "//test/v1/whoami", { token });
  assert.deepEqual((await ask(await ground.prove(agent.identity))).json, { id: agent.identity.id.uri });
  assert.equal((await ask(await ground.prove(connector.identity))).status, 403);
  assert.equal((await ask(ground.token)).status, 401, "an administrator is not a node");
  assert.equal((await ask(null)).status, 401);
});

Deno.test("secrets are in no list, no answer but the first, no audit entry and no log line", async () => {
  await using ground = await ApiGround.start();
  const admin = await ground.tokenOf("admin");
  const agent = await ground.make("/identities", { name: "a", type: "agent" });
  const { token } = await ground.make(`/identities/${agent.id}/enrolments`, {});
  const stored = await ground.store.list("api-token", { limit: 10 });
  const secrets = [token, admin.slice(-43), ...stored.items.map(({ spec }) => spec.secretHash)];
  const shown: string[] = [...ground.logLines];
  for (
    const path of [
      "/api-tokens",
      `/api-tokens/${stored.items[0]!.id}`,
      `/identities/${agent.id}/enrolments`,
      "/audit",
    ]
  ) {
    const { status, json } = await ground.call("GET", path, { token: admin });
    assert.equal(status, 200);
    shown.push(JSON.stringify(json));
  }
  for (const secret of secrets) {
    assert.ok(!shown.some((text) => text.includes(secret)), "a secret is shown");
  }
});

Deno.test("lists tell a caller nothing its role may not see, nor does selecting by it", async () => {
  await using ground = await ApiGround.start();
  await ground.node("agent", "chief", { adminRole: "operator" });
  for (const role of ["viewer", "operator"] as const) {
    const token = await ground.tokenOf(role);
    const list = await ground.call("GET", "/identities", { token });
    assert.equal(list.json.data.length, 1);
    assert.ok(!("adminRole" in list.json.data[0]) && !("externalId" in list.json.data[0]), role);
    const one = await ground.call("GET", `/identities/${list.json.data[0].id}`, { token });
    assert.ok(!("adminRole" in one.json) && !("externalId" in one.json));
    for (const filter of ["adminRole=operator", "externalId=x"]) {
      assert.equal((await ground.call("GET", `/identities?${filter}`, { token })).status, 403, filter);
    }
    for (const path of ["/api-tokens", "/auth-providers"]) {
      assert.equal((await ground.call("GET", path, { token })).status, 403, path);
    }
    const audit = await ground.call("GET", "/audit", { token });
    const details = audit.json.data.filter((entry: { event: string }) => entry.event === "admin");
    assert.ok(details.length > 0);
    for (const entry of details) assert.deepEqual([entry.detail, entry.redacted], [{}, true]);
  }
  const full = await ground.call("GET", "/identities?adminRole=operator");
  assert.equal(full.json.data[0].adminRole, "operator");
  assert.equal(
    (await ground.call("GET", "/identities?adminrole=operator")).status,
    400,
    "a misspelt filter selects nothing",
  );
});

Deno.test("a viewer writes nothing, on any route there is", async () => {
  await using ground = await ApiGround.start();
  const viewer = await ground.tokenOf("viewer");
  const before = await ground.store.revision();
  const { json: document } = await ground.call("GET", "//openapi.json", { token: null });
  let tried = 0;
  for (const [path, methods] of Object.entries<Record<string, unknown>>(document.paths)) {
    if (!path.startsWith("/api/v1/")) continue;
    for (const method of Object.keys(methods)) {
      if (method === "get") continue;
      const target = path.replaceAll(/\{[^}]+\}/g, crypto.randomUUID());
      const { status } = await ground.call(method.toUpperCase(), target.slice("/api/v1".length), {
        token: viewer,
        body: {},
      });
      assert.equal(status, 403, `${method} ${path}`);
      tried++;
    }
  }
  assert.ok(tried > 30, `${tried} routes`);
  assert.equal(await ground.store.revision(), before);
  const audited = await ground.store.queryAudit({ outcome: "denied", limit: 500 });
  assert.equal(audited.length, tried);
});

Deno.test("an operator comes to no access to the API by any detour", async () => {
  await using ground = await ApiGround.start();
  const chief = await ground.make("/identities", { name: "chief", type: "agent", adminRole: "admin" });
  const plain = await ground.make("/identities", { name: "plain", type: "agent" });
  const operator = await ground.tokenOf("operator");
  const as = async (method: string, path: string, body?: unknown) =>
    (await ground.call(method, path, { token: operator, ...(body === undefined ? {} : { body }) })).status;
  assert.equal(await as("POST", "/identities", { name: "new", type: "agent", adminRole: "viewer" }), 403);
  assert.equal(await as("PATCH", `/identities/${plain.id}`, { adminRole: "admin" }), 403);
  assert.equal(await as("PATCH", `/identities/${chief.id}`, { roleAttributes: ["x"] }), 403);
  assert.equal(await as("POST", `/identities/${chief.id}/enrolments`, {}), 403);
  assert.equal(await as("DELETE", `/identities/${chief.id}/enrolments`), 403);
  assert.equal(await as("POST", `/identities/${chief.id}/reset`), 403);
  assert.equal(await as("POST", `/identities/${chief.id}/disable`), 403);
  assert.equal(await as("DELETE", `/identities/${chief.id}`), 403);
  assert.equal(await as("POST", "/api-tokens", { name: "t", role: "viewer" }), 403);
  assert.equal(await as("POST", "/trust-domains", { name: "x", roots: ["x"] }), 403);
  assert.equal(await as("POST", "/auth-providers", { name: "x", issuer: "https://x", clientId: "x" }), 403);
  // What it may: an enrolment of an identity without a role; which is void once that identity gets one.
  assert.equal(await as("POST", `/identities/${plain.id}/enrolments`, {}), 201);
  assert.equal(
    (await ground.call("PATCH", `/identities/${plain.id}`, { body: { adminRole: "admin" } })).status,
    200,
  );
  assert.deepEqual(await ground.store.enrolments(plain.id), []);
});

Deno.test("a confined token stays in its collections and makes nothing wider than itself", async () => {
  await using ground = await ApiGround.start();
  const scoped = await ground.tokenOf("admin", ["identities", "api-tokens", "auth-providers"]);
  const chief = await ground.make("/identities", { name: "chief", type: "agent", adminRole: "admin" });
  const as = async (method: string, path: string, body?: unknown) =>
    await ground.call(method, path, { token: scoped, ...(body === undefined ? {} : { body }) });
  for (
    const path of ["/services", "/configs", "/audit", "/sessions", "/ipam/stats", "/network", "/policies"]
  ) {
    assert.equal((await as("GET", path)).status, 403, path);
  }
  assert.equal((await as("POST", "/services", { name: "a" })).status, 403);
  assert.equal((await as("GET", "/whoami")).status, 200);
  const tokens = [
    [[], 403],
    [["services"], 403],
    [["identities", "services"], 403],
    [["identities"], 201],
  ] as const;
  for (const [scopes, status] of tokens) {
    const made = await as("POST", "/api-tokens", { name: `of-${scopes.join("-")}`, role: "admin", scopes });
    assert.equal(made.status, status, scopes.join());
  }
  assert.equal(
    (await as("POST", "/identities", { name: "b", type: "agent", adminRole: "viewer" })).status,
    403,
  );
  assert.equal((await as("POST", `/identities/${chief.id}/enrolments`, {})).status, 403);
  const rules = [{ claim: "groups", roleAttributes: [], adminRole: "admin" }];
  const provider = { name: "p", issuer: "https://idp.example", clientId: "c", rules };
  assert.equal((await as("POST", "/auth-providers", provider)).status, 403);
  assert.equal((await as("POST", "/identities", { name: "b", type: "agent" })).status, 201);
});

Deno.test("a relay's proof reaches addresses and nothing else", async () => {
  await using ground = await ApiGround.start();
  const { identity } = await ground.node("relay", "relay-1");
  const as = async (method: string, path: string, body?: unknown) =>
    (await ground.call(method, path, {
      token: await ground.prove(identity),
      ...(body === undefined ? {} : { body }),
    })).status;
  assert.equal(await as("POST", "/ipam/allocations", { client_id: "client" }), 201);
  for (const path of ["/identities", "/services", "/audit", "/api-tokens", "/sessions", "/network"]) {
    assert.equal(await as("GET", path), 403, path);
  }
  assert.equal(await as("POST", "/identities", { name: "b", type: "agent" }), 403);
});

Deno.test("browsers are let in from nowhere, and answers are neither kept, framed nor guessed at", async () => {
  await using ground = await ApiGround.start();
  const headers = { origin: "https://evil.example", "access-control-request-method": "POST" };
  for (
    const [method, path] of [["OPTIONS", "/services"], ["GET", "/services"], ["GET", "//health"]] as const
  ) {
    const answer = await ground.call(method, path, { headers });
    assert.equal(answer.headers.get("access-control-allow-origin"), null);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    assert.equal(answer.headers.get("cache-control"), "no-store");
    assert.match(answer.headers.get("content-security-policy") ?? "", /default-src 'none'/);
    assert.match(answer.headers.get("strict-transport-security") ?? "", /max-age/);
    assert.equal(answer.headers.get("set-cookie"), null);
  }
});

Deno.test("what goes wrong inside is told to the log, not to the caller", async () => {
  const password = "postgres://user:hunter2@db";
  await using ground = await ApiGround.start({
    mounts: [{ path: "/broken/v1", router: await brokenRouter(password) }],
  });
  const { status, json } = await ground.call("GET", "//broken/v1/x", { token: null });
  assert.equal(status, 500);
  assert.deepEqual(json, {
    type: "urn:ginnel:problem:internal",
    title: "The controller failed",
    status: 500,
  });
  assert.ok(ground.logLines.some((line) => line.includes("api_request_failed")));
});

async function brokenRouter(secret: string) {
  const { createRouter } = await import("../../src/api/env.ts");
  const router = createRouter();
  router.get("/x", () => {
    throw new Error(`cannot connect to ${secret}`);
  });
  return router;
}

async function derOf(pem: string): Promise<Uint8Array> {
  const { decodePem } = await import("../../src/identity/pem.ts");
  return decodePem("CERTIFICATE", pem)[0]!;
}
