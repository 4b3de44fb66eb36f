/** Acceptance S3, the address service: who may ask it what, what it says no to, and what the audit log has of it. */

import assert from "node:assert/strict";
import { ApiGround } from "./api_ground.ts";

const CLIENT = "spiffe://test.internal/agent/alice";
const PATH = `/ipam/allocations/${encodeURIComponent(CLIENT)}`;

/** Every route, in an order in which each succeeds. */
const ROUTES = [
  ["POST", "/ipam/allocations", 201],
  ["POST", "/ipam/allocations", 200],
  ["GET", "/ipam/allocations", 200],
  ["GET", PATH, 200],
  ["PUT", `${PATH}/refresh`, 200],
  ["GET", "/ipam/stats", 200],
  ["DELETE", PATH, 204],
] as const;

Deno.test("every route answers administrators, operators, keys confined to it, and relays that prove themselves", async () => {
  await using ground = await ApiGround.start();
  const { identity } = await ground.node("relay", "relay-1");
  const keys = [await ground.tokenOf("operator"), await ground.tokenOf("operator", ["ipam"])];
  for (const by of [() => ground.token, ...keys.map((key) => () => key), () => ground.prove(identity)]) {
    for (const [method, path, wanted] of ROUTES) {
      const body = method === "POST" ? { body: { client_id: CLIENT } } : {};
      const { status, json } = await ground.call(method, path, { token: await by(), ...body });
      assert.equal(status, wanted, `${method} ${path}`);
      if (json?.client_id !== undefined) assert.equal(json.client_id, CLIENT);
    }
  }
});

Deno.test("no route answers strangers, agents, or keys that are not for it; viewers only look", async () => {
  await using ground = await ApiGround.start();
  await ground.make("/ipam/allocations", { client_id: CLIENT });
  const { identity: agent } = await ground.node("agent", "alice");
  const { identity: relay, resource } = await ground.node("relay", "relay-2");
  const viewer = await ground.tokenOf("viewer");
  const elsewhere = await ground.tokenOf("operator", ["services"]);
  await ground.call("POST", `/identities/${resource.id}/disable`);
  for (const [method, path] of ROUTES) {
    const body = method === "POST" ? { body: { client_id: "mallory" } } : {};
    const as = async (token: string | null) => (await ground.call(method, path, { token, ...body })).status;
    assert.equal(await as(null), 401);
    assert.equal(await as(await ground.prove(agent)), 401);
    assert.equal(await as(await ground.prove(relay)), 401, "it is disabled");
    assert.equal(await as(elsewhere), 403);
    assert.equal(await as(viewer), method === "GET" ? 200 : 403);
  }
  const { json } = await ground.call("GET", "/ipam/allocations");
  assert.deepEqual(json.data.map(({ client_id }: { client_id: string }) => client_id), [CLIENT]);
});

Deno.test("what cannot be a client is refused with the field named", async () => {
  await using ground = await ApiGround.start();
  const cases = [
    [{}, "client_id"],
    [{ client_id: "" }, "client_id"],
    [{ client_id: "two words" }, "client_id"],
    [{ client_id: "x".repeat(2_049) }, "client_id"],
    [{ client_id: 7 }, "client_id"],
    [{ client_id: "c", metadata: { note: "x".repeat(9_000) } }, "metadata"],
    [{ client_id: "c", metadata: [] }, "metadata"],
    // An address is given, never asked for.
    [{ client_id: "c", virtual_ip: "10.100.0.1" }, "virtual_ip"],
  ] as const;
  for (const [body, field] of cases) {
    const { status, json } = await ground.call("POST", "/ipam/allocations", { body });
    assert.equal(status, 400, JSON.stringify(body).slice(0, 80));
    assert.ok(
      json.errors.some((error: { field: string; message: string }) =>
        error.field === field || error.message.includes(field)
      ),
      JSON.stringify(json.errors),
    );
  }
  assert.equal((await ground.call("GET", "/ipam/stats")).json.allocated, 0);
});

Deno.test("an allocation keeps what was noted of it, pages follow one another, and the log has who took it", async () => {
  await using ground = await ApiGround.start({ pool: "10.100.0.0/29" });
  const clients = ["a", "b", "c", "d", "e"];
  for (const client_id of clients) {
    await ground.make("/ipam/allocations", { client_id, metadata: { of: client_id } });
  }
  const seen: string[] = [];
  for (let cursor: string | null = null, pages = 0; pages === 0 || cursor !== null; pages++) {
    const after: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const { json } = await ground.call("GET", `/ipam/allocations?limit=2${after}`);
    assert.equal(json.meta.total, clients.length);
    for (const { client_id, metadata, virtual_ip, virtual_ip6, allocated_at, last_seen_at } of json.data) {
      assert.deepEqual(metadata, { of: client_id });
      assert.match(virtual_ip, /^10\.100\.0\.[2-6]$/);
      assert.equal(virtual_ip6, null);
      assert.equal(allocated_at, new Date(ground.now).toISOString());
      assert.equal(last_seen_at, allocated_at);
      seen.push(client_id);
    }
    cursor = json.meta.cursor;
  }
  assert.deepEqual(seen, clients);
  const before = (await ground.call("GET", "/ipam/allocations/c")).json;
  assert.equal((await ground.call("DELETE", "/ipam/allocations/c")).status, 204);
  // The only address that is free.
  const heir = await ground.make("/ipam/allocations", { client_id: "f" });
  assert.equal(heir.virtual_ip, before.virtual_ip);
  const { json: audit } = await ground.call("GET", "/audit?limit=100");
  const entries: string[] = audit.data.filter(({ target }: { target: string }) =>
    target.startsWith("address/")
  )
    .map(({ detail, target }: { detail: { action: string }; target: string }) =>
      `${detail.action} ${target}`
    );
  assert.deepEqual(entries.toReversed(), [
    ...clients.map((client) => `allocate address/${client}`),
    "release address/c",
    "allocate address/f",
  ]);
});
