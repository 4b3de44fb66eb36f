/** The OpenAPI document against the running server: every operation, its statuses, its bodies. */

import assert from "node:assert/strict";
import { ApiGround } from "./api_ground.ts";

const ROOT_ID = "00000000-0000-4000-8000-000000000000";

Deno.test("the document is OpenAPI 3.1, the same at both places, and readable without a token", async () => {
  await using ground = await ApiGround.start();
  const one = await ground.call("GET", "//openapi.json", { token: null });
  const two = await ground.call("GET", "/openapi.json", { token: null });
  assert.equal(one.json.openapi, "3.1.0");
  assert.deepEqual(one.json, two.json);
  for (const [path, methods] of Object.entries<Record<string, { security?: unknown }>>(one.json.paths)) {
    for (const [method, { security }] of Object.entries(methods)) {
      assert.equal(security !== undefined, path.startsWith("/api/v1/"), `${method} ${path}`);
    }
  }
});

Deno.test("every operation refuses strangers and nonsense in a documented way", async () => {
  await using ground = await ApiGround.start();
  const { operations } = ground.checker;
  assert.ok(operations.length > 60, `${operations.length} operations`);
  for (const operation of operations) {
    const [method, template] = operation.split(" ") as [string, string];
    const path = `/${template.replaceAll(/\{[^}]+\}/g, ROOT_ID)}`;
    const isAdmin = template.startsWith("/api/v1/");
    const stranger = await ground.call(method, path, { token: null });
    assert.equal(stranger.status, isAdmin ? 401 : 200, operation);
    const nonsense = await ground.call(method, path, method === "GET" ? {} : { body: { unheard: "of" } });
    const refused = [400, 404];
    if (!isAdmin || method === "GET") refused.push(200);
    // What takes no body does not look at one: removing what is not there is no fault of the body's.
    assert.ok(refused.includes(nonsense.status), `${operation}: ${nonsense.status}`);
    if (method === "GET") {
      const { status } = await ground.call(method, `${path}?unheard=of`);
      assert.ok([200, 400, 404].includes(status), `${operation}: ${status}`);
    }
  }
});

Deno.test("every operation has been seen to succeed as documented", async () => {
  await using ground = await ApiGround.start();
  const { checker } = ground;
  const ok = async (method: string, path: string, body?: unknown) => {
    const answer = await ground.call(method, path, body === undefined ? {} : { body });
    assert.ok(answer.status < 300, `${method} ${path}: ${JSON.stringify(answer.json)}`);
    return answer.json;
  };
  for (const path of ["health", "ready", ".well-known/health-check"]) await ok("GET", `//${path}`);
  const pem = ground.network.ca.certificatePem;
  const hosted = { address: "h", port: 1, protocol: "tcp" };
  const rules = [{ path: "/ns/**", roleAttributes: ["x"] }];
  const claims = [{ claim: "groups", value: "admins", roleAttributes: ["{value}"], adminRole: "viewer" }];
  const plain: [string, Record<string, unknown>, Record<string, unknown>][] = [
    ["identities", { name: "a", type: "agent" }, { tags: { a: 1 } }],
    ["configs", { name: "c", type: "host.v1", data: hosted }, { data: { ...hosted, port: 2 } }],
    ["services", { name: "s" }, { encryptionRequired: false }],
    ["service-policies", { name: "p", type: "Dial", identityRoles: ["#all"], serviceRoles: ["@s"] }, {
      type: "Bind",
    }],
    ["trust-domains", { name: "partner.example", roots: [pem], rules }, { disabled: true }],
    ["auth-providers", { name: "i", issuer: "https://idp.example", clientId: "c", rules: claims }, {
      scopes: ["openid"],
    }],
  ];
  for (const [collection, input, edit] of plain) {
    const made = await ok("POST", `/${collection}`, input);
    const path = `/${collection}/${made.id}`;
    await ok("GET", path);
    await ok("PATCH", path, edit);
    await ok("PUT", path, input);
    await ok("GET", `/${collection}`);
    if (collection === "identities") {
      await ok("POST", `${path}/enrolments`, {});
      await ok("POST", `${path}/enrolments`);
      await ok("GET", `${path}/enrolments`);
      await ok("DELETE", `${path}/enrolments`);
      for (const action of ["disable", "enable", "reset"]) await ok("POST", `${path}/${action}`);
    }
    await ok("DELETE", path);
  }
  const policy = await ok("POST", "/policies", { name: "p", document: { clients: {} } });
  await ok("GET", "/policies");
  await ok("GET", `/policies/${policy.id}`);
  await ok("PUT", `/policies/${policy.id}`, { document: { clients: {} } });
  for (const action of ["activate", "deactivate"]) await ok("POST", `/policies/${policy.id}/${action}`);
  await ok("DELETE", `/policies/${policy.id}`);
  const token = await ok("POST", "/api-tokens", {
    name: "t",
    role: "viewer",
    expiresAt: "2031-01-01T00:00:00Z",
  });
  await ok("GET", "/api-tokens");
  await ok("GET", `/api-tokens/${token.id}`);
  await ok("DELETE", `/api-tokens/${token.id}`);
  await ok("POST", "/ipam/allocations", { client_id: "c" });
  await ok("POST", "/ipam/allocations", { client_id: "c" });
  await ok("PUT", "/ipam/allocations/c/refresh");
  for (const path of ["/ipam/allocations", "/ipam/allocations/c", "/ipam/stats"]) await ok("GET", path);
  await ok("DELETE", "/ipam/allocations/c");
  const now = ground.now;
  await ground.store.putSessions([{
    id: "s",
    relay: "r",
    identity: "i",
    kind: "agent",
    remote: "x:1",
    services: [],
    openedAt: now,
    lastSeenAt: now,
    closedAt: null,
  }]);
  for (const path of ["relays", "connectors", "sessions", "audit", "network", "whoami", "version"]) {
    await ok("GET", `/${path}`);
  }
  await ok("DELETE", "/sessions/s");
  const missed = checker.operations.filter((operation) =>
    ![200, 201, 204].some((status) => checker.seen.has(`${operation} ${status}`))
  );
  assert.deepEqual(missed, []);
});
