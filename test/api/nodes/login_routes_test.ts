/** What `/login/v1` answers to whom; the logins themselves are tested with the service. */

import assert from "node:assert/strict";
import { createApi } from "../../../src/api/app.ts";
import { loginRoutes } from "../../../src/api/nodes/login_routes.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { IdentityError } from "../../../src/identity/errors.ts";
import { parseSpiffeId } from "../../../src/identity/spiffe_id.ts";
import { LOGIN_DOMAIN, LoginGround } from "../../support/login_ground.ts";

const GOOD = { provider: "main", idToken: "a.b.c", csr: "x", challenge: "x" };

Deno.test("/login/v1/login refuses what is no login before the service sees it", async () => {
  await using ground = await LoginGround.open();
  const { post } = open(ground);
  const entries = async () => (await ground.store.queryAudit({ limit: 10 })).length;
  for (
    const body of [
      {},
      { ...GOOD, admin: true },
      { ...GOOD, idToken: "x".repeat(32_769) },
      { ...GOOD, challenge: "x".repeat(1025) },
      { ...GOOD, csr: "x".repeat(12_001) },
      { ...GOOD, provider: 1 },
      [],
      "text",
    ]
  ) assert.equal((await post("/login", body)).status, 400, JSON.stringify(body).slice(0, 60));
  assert.equal((await post("/login", { ...GOOD, csr: "x".repeat(100_000) })).status, 413);
  assert.equal(await entries(), 0);
  const refused = await post("/login", GOOD);
  assert.equal(refused.status, 401);
  assert.equal((await refused.json()).type, "urn:ginnel:problem:unauthenticated");
  assert.equal(await entries(), 1);
});

Deno.test("/login/v1/login says with its status whether to begin again, ask somebody, or wait", async () => {
  await using ground = await LoginGround.open({ disabled: true });
  await ground.addProvider("away", { issuer: "http://127.0.0.1:1" });
  const { post } = open(ground);
  const statuses: Record<string, number> = { main: 403, nobody: 403, away: 503 };
  for (const [provider, status] of Object.entries(statuses)) {
    const { challenge } = await ground.service.challenge();
    const idToken = await ground.token({});
    assert.equal((await post("/login", { ...GOOD, provider, idToken, challenge })).status, status, provider);
  }
});

Deno.test("/login/v1/providers shows what a device needs and no rule", async () => {
  await using ground = await LoginGround.open();
  await ground.addProvider("off", { disabled: true });
  const { get } = open(ground);
  const { issuer, clientId } = ground.provider;
  const scopes = ["openid", "profile", "offline_access"];
  assert.deepEqual(await (await get("/providers")).json(), {
    data: [{ name: "main", issuer, clientId, scopes }],
  });
});

Deno.test("/login/v1/logout is only for users who prove who they are", async () => {
  await using ground = await LoginGround.open();
  const { post } = open(ground);
  const statuses: Record<string, number> = {
    "": 401,
    "Bearer bad": 401,
    "Bearer agent": 403,
    "Bearer user": 204,
  };
  for (const [authorization, status] of Object.entries(statuses)) {
    assert.equal((await post("/logout", {}, { authorization })).status, status, authorization);
  }
  const named = await post("/logout", {}, { "x-client-cert": "user", "x-forwarded-user": "user" });
  assert.equal(named.status, 401);
  const entry = await ground.lastAudit();
  assert.deepEqual([entry.outcome, entry.who], ["logout", `spiffe://${LOGIN_DOMAIN}/user/alice`]);
});

function open(ground: LoginGround) {
  const api = createApi({
    admin: { noteDenied: () => Promise.resolve() } as never,
    authenticate: () => Promise.resolve(undefined),
    verifyProof: (token) => {
      if (token !== "user" && token !== "agent") {
        return Promise.reject(new IdentityError("ERR_PROOF_MALFORMED", "Cannot accept the proof"));
      }
      const id = parseSpiffeId(`spiffe://${LOGIN_DOMAIN}/${token}/alice`);
      return Promise.resolve({ id, notAfter: 0, certificateSerial: "AB", group: undefined, chain: [] });
    },
    nodeRouters: [{ path: "/login/v1", router: loginRoutes(ground.service), rate: "strict" }],
    health: () => ({ ready: true, uptime: 0 }),
    logger: SILENT_LOGGER,
    now: Date.now,
  });
  const info = { remoteAddr: { transport: "tcp", hostname: "192.0.2.1" } };
  const send = (path: string, init: RequestInit) =>
    api.fetch(new Request(`https://controller.test/login/v1${path}`, init), info);
  return {
    get: (path: string) => send(path, {}),
    post: (path: string, body: unknown, headers: Record<string, string> = {}) =>
      send(path, {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "content-type": "application/json", ...headers },
      }),
  };
}
