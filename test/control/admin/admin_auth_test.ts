/** Who counts as an administrator: the first token's life, expiry, providers; and tokens as text. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { AdminAuth } from "../../../src/control/admin/admin_auth.ts";
import {
  formatApiToken,
  hashSecret,
  isSecret,
  makeSecret,
  parseApiToken,
} from "../../../src/control/admin/api_token.ts";
import type { NetworkAdmin } from "../../../src/control/admin/network_admin.ts";
import type { Principal } from "../../../src/core/network/access.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { ApiGround } from "../../api/api_ground.ts";

const ROOT: Principal = { who: "test", role: "admin", scopes: [] };

Deno.test("the first token exists once, however often and at how many controllers one starts", async () => {
  await using ground = await ApiGround.start({ keepFirstToken: true });
  assert.equal(await ground.admin.ensureBootstrap(), undefined);
  const raced = await Promise.all(Array.from({ length: 4 }, () => ground.admin.ensureBootstrap()));
  assert.deepEqual(raced, [undefined, undefined, undefined, undefined]);
  assert.equal((await ground.call("GET", "/whoami")).json.role, "admin");
});

Deno.test("the first token ends with the first administrator's token, and does not come back", async () => {
  await using ground = await ApiGround.start({ keepFirstToken: true });
  const first = ground.token;
  await ground.tokenOf("viewer");
  await ground.tokenOf("admin", ["services"]);
  assert.equal(
    (await ground.call("GET", "/whoami", { token: first })).status,
    200,
    "these cannot replace it",
  );
  const admin = await ground.tokenOf("admin");
  assert.equal((await ground.call("GET", "/whoami", { token: first })).status, 401);
  const { json } = await ground.call("GET", "/api-tokens?role=admin", { token: admin });
  assert.ok(!json.data.some(({ bootstrap }: { bootstrap: boolean }) => bootstrap));
  assert.equal(await ground.admin.ensureBootstrap(), undefined, "not even at the next start");
});

Deno.test("the first token lasts until an administrator's identity has enrolled, then ends for good", async () => {
  await using ground = await ApiGround.start({ keepFirstToken: true });
  const made = await ground.make("/identities", { name: "chief", type: "agent", adminRole: "admin" });
  await ground.make(`/identities/${made.id}/enrolments`, {});
  assert.equal(
    (await ground.call("GET", "/whoami")).status,
    200,
    "who has no certificate yet can let nobody in",
  );
  const chief = await ground.node("agent", "second", { adminRole: "admin" });
  assert.equal((await ground.call("GET", "/whoami")).status, 401);
  const token = await ground.prove(chief.identity);
  assert.equal((await ground.call("DELETE", `/identities/${chief.resource.id}`, { token })).status, 204);
  assert.equal((await ground.call("GET", "/whoami")).status, 401, "it must not come back");
});

Deno.test("whoever owns the machine and is locked out gets a new first token; the one before is void", async () => {
  await using ground = await ApiGround.start({ keepFirstToken: true });
  const renewed = await ground.admin.ensureBootstrap({ renew: true });
  assert.ok(renewed !== undefined && renewed !== ground.token);
  assert.equal((await ground.call("GET", "/whoami")).status, 401);
  assert.equal((await ground.call("GET", "/whoami", { token: renewed })).json.role, "admin");
});

Deno.test("a token ends at its time, or when it is deleted", async () => {
  await using ground = await ApiGround.start();
  const expiresAt = new Date(ground.now + 60_000).toISOString();
  const made = await ground.make("/api-tokens", { name: "t", role: "viewer", expiresAt });
  const ask = async () => (await ground.call("GET", "/whoami", { token: made.token })).status;
  assert.equal(await ask(), 200);
  ground.now += 60_000;
  assert.equal(await ask(), 401);
  const past = new Date(ground.now - 1).toISOString();
  const late = await ground.call("POST", "/api-tokens", {
    body: { name: "u", role: "viewer", expiresAt: past },
  });
  assert.equal(late.json.errors[0].field, "expiresAt");
  const other = await ground.make("/api-tokens", { name: "v", role: "viewer" });
  assert.equal((await ground.call("DELETE", `/api-tokens/${other.id}`)).status, 204);
  assert.equal((await ground.call("GET", "/whoami", { token: other.token })).status, 401);
});

Deno.test("a provider's user has the role the provider's rules give; a provider that fails lets nobody in", async () => {
  const who = "oidc:https://idp.example|42";
  await using ground = await ApiGround.start({
    oidc: (token) => {
      if (token === "broken") return Promise.reject(new Error("no answer"));
      return Promise.resolve(token === "good.id.token" ? { who, role: "operator" } : undefined);
    },
  });
  const ask = (token: string) => ground.call("GET", "/whoami", { token });
  assert.deepEqual((await ask("good.id.token")).json, { who, role: "operator", scopes: [] });
  assert.equal((await ask("other.id.token")).status, 401);
  assert.equal((await ask("broken")).status, 401);
});

Deno.test("no text makes the authentication throw", async () => {
  await using ground = await ApiGround.start();
  const auth = new AdminAuth({
    store: ground.store,
    now: () => ground.now,
    logger: SILENT_LOGGER,
    verifyProof: () => Promise.reject(new Error("never a proof")),
  });
  const text = fc.oneof(
    fc.string(),
    fc.string().map((rest) => `gnl_${rest}`),
    fc.base64String().map((b) => `${b}.${b}.${b}`),
  );
  await fc.assert(
    fc.asyncProperty(text, async (bearer) => assert.equal(await auth.authenticate(bearer), undefined)),
  );
});

Deno.test("tokens read as they are written, and no other text is one", () => {
  const id = crypto.randomUUID();
  for (let i = 0; i < 100; i++) {
    const secret = makeSecret();
    assert.deepEqual(parseApiToken(formatApiToken({ id, secret })), { id, secret });
    assert.ok(isSecret(secret, hashSecret(secret)));
    assert.ok(!isSecret(secret, hashSecret(`${secret}x`)));
    assert.ok(!isSecret(secret, ""));
  }
  fc.assert(fc.property(fc.string(), (text) => assert.equal(parseApiToken(text), undefined)));
});

Deno.test("two administrations that act at once lose and double nothing", async () => {
  await using ground = await ApiGround.start();
  const { admin } = ground;
  const made = await Promise.all(Array.from({ length: 12 }, (_, i) => create(admin, `s-${i % 4}`)));
  assert.equal(made.filter(({ ok }) => ok).length, 4);
  const facts = await ground.store.queryAudit({ event: "admin", limit: 500 });
  assert.equal(
    facts.filter(({ target }) => target.startsWith("service/")).length,
    4,
    "refusals leave no entry",
  );
});

function create(admin: NetworkAdmin, name: string) {
  const spec = { configs: [], encryptionRequired: true, roleAttributes: [], tags: {} };
  return admin.create("service", { name, spec }, { by: ROOT });
}
