/** What administrators do at the API, with the acceptance documents' own requests. */

import assert from "node:assert/strict";
import { parsePolicy } from "../../src/config/policy_file.ts";
import { preferredIndex } from "../../src/core/service/virtual_address.ts";
import { ApiGround } from "./api_ground.ts";

const EGRESS = {
  version: "1.0",
  metadata: { name: "default" },
  clients: {
    "#all": { rules: [{ id: "web", type: "ip_cidr", action: "allow", destinations: ["10.0.0.0/8"] }] },
  },
};

Deno.test("acceptance S1: two configs and a service, as OpenZiti's clients post them", async () => {
  await using ground = await ApiGround.start();
  const intercept = await ground.make("/configs", {
    name: "claude-api-intercept",
    type: "intercept.v1",
    data: { addresses: ["claude-api.ziti"], portRanges: [{ low: 443, high: 443 }], protocols: ["tcp"] },
  });
  const host = await ground.make("/configs", {
    name: "claude-api-host",
    type: "host.v1",
    data: { address: "localhost", port: 8000, protocol: "tcp" },
  });
  const service = await ground.make("/services", {
    name: "claude-api",
    configs: [intercept.id, host.id],
    encryptionRequired: true,
    roleAttributes: ["claude-services"],
    tags: { owner: "team-a" },
  });
  assert.deepEqual(service.configs, [intercept.id, host.id]);
  const read = await ground.call("GET", `/services/${service.id}`);
  assert.deepEqual(read.json, service);
  const removed = await ground.call("DELETE", `/configs/${host.id}`);
  assert.equal(removed.status, 409);
  assert.match(removed.json.detail, /claude-api/);
  assert.equal((await ground.call("DELETE", `/services/${service.id}`)).status, 204);
  assert.equal((await ground.call("DELETE", `/configs/${host.id}`)).status, 204);
});

Deno.test("a service has virtual addresses for life, and an idle time-out within bounds", async () => {
  await using ground = await ApiGround.start();
  const service = await ground.make("/services", { name: "web" });
  assert.deepEqual([service.idleTimeout, service.virtualAddresses.index], [120, preferredIndex("web")]);
  assert.match(service.virtualAddresses.ipv4, /^10\.101\.\d+\.\d+$/);
  assert.match(service.virtualAddresses.ipv6, /^fd[0-9a-f:]+::[0-9a-f]+$/);
  const path = `/services/${service.id}`;
  for (
    const [method, body] of [
      ["PATCH", { name: "site", idleTimeout: 30 }],
      ["PUT", { name: "page", idleTimeout: 86_400 }],
    ] as const
  ) {
    const changed = await ground.call(method, path, { body });
    assert.equal(changed.json.idleTimeout, body.idleTimeout);
    assert.deepEqual(changed.json.virtualAddresses, service.virtualAddresses);
  }
  // The name is free again, its number is not.
  const other = await ground.make("/services", { name: "web" });
  assert.equal(other.virtualAddresses.index, preferredIndex("web") + 1);
  const listed = await ground.call("GET", "/services");
  assert.deepEqual(
    listed.json.data.map((entry: typeof service) => entry.virtualAddresses),
    [service.virtualAddresses, other.virtualAddresses],
  );
  for (
    const body of [{ idleTimeout: 4 }, { idleTimeout: 86_401 }, { index: 99 }, { virtualAddresses: null }]
  ) {
    assert.equal((await ground.call("PATCH", path, { body })).status, 400, JSON.stringify(body));
  }
});

Deno.test("configs are refused by the API for what policy files refuse, field by field", async () => {
  await using ground = await ApiGround.start();
  const good = { addresses: ["A.Example"], portRanges: [{ low: 1, high: 2 }], protocols: ["tcp"] };
  const forward = { protocol: "tcp", forwardAddress: true, port: 1 };
  const made = await ground.make("/configs", { name: "c", type: "intercept.v1", data: good });
  assert.deepEqual(made.data, { ...good, addresses: ["a.example"] });
  for (
    const [type, data, field] of [
      ["intercept.v1", { ...good, addresses: ["0.0.0.0/0"] }, "addresses[0]"],
      ["intercept.v1", { ...good, sourceIp: "10.0.0.1" }, "sourceIp"],
      ["host.v1", forward, "allowedAddresses"],
      ["host.v1", { ...forward, address: "a", allowedAddresses: ["a"] }, "forwardAddress"],
    ] as const
  ) {
    const answer = await ground.call("POST", "/configs", { body: { name: "d", type, data } });
    assert.deepEqual(answer.json.errors.map((error: { field: string }) => error.field), [`data.${field}`]);
    const kind = type === "host.v1" ? "host" : "intercept";
    const text = JSON.stringify({ services: [{ name: "d", [kind]: data }] });
    assert.throws(
      () => parsePolicy([{ file: "p.json", text }]),
      (error: Error) => error.message.includes(field),
    );
  }
  // A change does not swap shapes, nor does it say less than all.
  for (const data of [{ protocol: "tcp", address: "a", port: 1 }, { addresses: ["b.example"] }]) {
    assert.equal((await ground.call("PATCH", `/configs/${made.id}`, { body: { data } })).status, 400);
  }
});

Deno.test("acceptance S0: the policy is taken word for word", async () => {
  await using ground = await ApiGround.start();
  const text =
    '{"name":"rtmx-sync-access","type":"Dial","identityRoles":["#rtmx-users"],"serviceRoles":["@rtmx-sync"],"semantic":"AnyOf"}';
  const policy = await ground.make("/service-policies", text);
  const { id: _id, revision: _revision, createdAt: _made, updatedAt: _changed, tags: _tags, ...said } =
    policy;
  assert.deepEqual(said, JSON.parse(text));
});

Deno.test("references that lead nowhere and roles that mean nothing are refused field by field", async () => {
  await using ground = await ApiGround.start();
  const host = await ground.make("/configs", {
    name: "h",
    type: "host.v1",
    data: { address: "localhost", port: 1, protocol: "tcp" },
  });
  const second = await ground.make("/configs", {
    name: "h2",
    type: "host.v1",
    data: { address: "localhost", port: 2, protocol: "tcp" },
  });
  const fields = async (path: string, body: unknown) => {
    const { status, json } = await ground.call("POST", path, { body });
    assert.equal(status, 400, JSON.stringify(json));
    return json.errors.map(({ field }: { field: string }) => field);
  };
  assert.deepEqual(
    await fields("/services", { name: "a", configs: [host.id, second.id, crypto.randomUUID()] }),
    [
      "configs[1]",
      "configs[2]",
    ],
  );
  assert.deepEqual(await fields("/services", { name: "Not A Name", roleAttributes: ["#x", "all", "ok"] }), [
    "name",
    "roleAttributes[0]",
    "roleAttributes[1]",
  ]);
  const policy = { name: "p", type: "Bind", identityRoles: ["#a", "alice"], serviceRoles: ["#all", "@x"] };
  assert.deepEqual(await fields("/service-policies", policy), ["identityRoles[1]", "serviceRoles"]);
  assert.deepEqual(
    await fields("/configs", {
      name: "c",
      type: "intercept.v1",
      data: { addresses: [], portRanges: [{ low: 2, high: 1 }] },
    }),
    ["data.addresses", "data.portRanges[0].high", "data.protocols"],
  );
  assert.deepEqual(await fields("/service-policies", { ...policy, unheard: 1 }), ["unheard"]);
  assert.deepEqual(await fields("/identities", { name: "Relay 1", type: "relay" }), ["name"]);
  assert.deepEqual(await fields("/identities", { name: "r", type: "relay", adminRole: "admin" }), [
    "adminRole",
  ]);
  assert.deepEqual(await fields("/trust-domains", { name: "test.internal", roots: ["x"] }), [
    "name",
    "roots[0]",
  ]);
});

Deno.test("identities: enrolled, changed, disabled, removed; what they held ends with them", async () => {
  await using ground = await ApiGround.start();
  const { resource, identity, serial } = await ground.node("agent", "alice", {
    roleAttributes: ["rtmx-users"],
  });
  const path = `/identities/${resource.id}`;
  assert.equal(resource.spiffeId, "spiffe://test.internal/agent/alice");
  assert.equal(
    (await ground.call("POST", "/identities", { body: { name: "alice", type: "agent" } })).status,
    409,
  );
  await ground.make("/ipam/allocations", { client_id: identity.id.uri });
  const enrolment = await ground.make(`${path}/enrolments`, { ttlSeconds: 600 });
  assert.ok(enrolment.token.length > 0);
  const listed = await ground.call("GET", `${path}/enrolments`);
  assert.deepEqual(listed.json.data.map((entry: { id: string }) => entry.id), [enrolment.id]);

  assert.equal((await ground.call("PATCH", path, { body: { name: "bob" } })).status, 400);
  const renamed = await ground.call("PUT", path, { body: { name: "bob", type: "agent" } });
  assert.equal(renamed.json.errors[0].field, "name");
  const changed = await ground.call("PATCH", path, { body: { roleAttributes: ["x"], disabled: true } });
  assert.deepEqual([changed.json.roleAttributes, changed.json.disabled], [["x"], true]);
  assert.notEqual((await ground.store.certificate(serial))!.revokedAt, null);
  assert.deepEqual(await ground.store.revokedSerials(ground.now), [serial]);
  assert.deepEqual(await ground.store.enrolments(resource.id), []);
  assert.equal(await ground.store.addressOf(identity.id.uri), undefined);
  assert.equal((await ground.call("DELETE", path)).status, 204);
  assert.equal((await ground.call("GET", path)).status, 404);
  assert.equal((await ground.call("POST", `${path}/enrolments`, { body: {} })).status, 404);
});

Deno.test("lists come in pages, searched and selected, without a gap or a double", async () => {
  await using ground = await ApiGround.start();
  for (let i = 0; i < 25; i++) {
    const type = i % 2 === 0 ? "agent" : "connector";
    await ground.make("/identities", {
      name: `node-${i}`,
      type,
      roleAttributes: i % 5 === 0 ? ["five"] : [],
    });
  }
  const names: string[] = [];
  let cursor: string | null = "";
  while (cursor !== null) {
    const page: { json: { data: { name: string }[]; meta: { cursor: string | null; total: number } } } =
      await ground
        .call("GET", `/identities?limit=10${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);
    assert.equal(page.json.meta.total, 25);
    names.push(...page.json.data.map(({ name }) => name));
    cursor = page.json.meta.cursor;
  }
  assert.equal(new Set(names).size, 25);
  const count = async (query: string) => (await ground.call("GET", `/identities?${query}`)).json.meta?.total;
  assert.equal(await count("type=agent"), 13);
  assert.equal(await count("search=NODE-1"), 11);
  assert.equal(await count("name=node-1"), 1);
  assert.equal(await count("roleAttribute=five"), 5);
  assert.equal(await count("disabled=true"), 0);
  for (const query of ["limit=0", "limit=501", "cursor=x", "type=none", "disabled=1", "limit=10&limit=20"]) {
    assert.equal((await ground.call("GET", `/identities?${query}`)).status, 400, query);
  }
});

Deno.test("a write on what has changed meanwhile is refused; of two at once one happens [RFC9110-13.1.1]", async () => {
  await using ground = await ApiGround.start();
  const service = await ground.make("/services", { name: "a" });
  const path = `/services/${service.id}`;
  const read = await ground.call("GET", path);
  const etag = read.headers.get("etag")!;
  assert.equal(etag, `"${service.revision}"`);
  const patch = (tag: string | undefined, value: string) =>
    ground.call("PATCH", path, {
      body: { roleAttributes: [value] },
      headers: tag === undefined ? {} : { "if-match": tag },
    });
  const race = await Promise.all(Array.from({ length: 8 }, (_, i) => patch(etag, `v${i}`)));
  assert.equal(race.filter(({ status }) => status === 200).length, 1);
  assert.equal(race.filter(({ status }) => status === 412).length, 7);
  const now = race.find(({ status }) => status === 200)!.headers.get("etag")!;
  for (const tag of [etag, `W/${now}`, now.slice(1, -1), '"x"', `"${"9".repeat(30)}"`, "", `${etag}, "x"`]) {
    assert.equal((await patch(tag, "late")).status, 412, tag);
  }
  assert.equal((await ground.call("DELETE", path, { headers: { "if-match": etag } })).status, 412);
  assert.equal((await patch(`${etag}, ${now}`, "several")).status, 200);
  assert.equal((await patch("*", "any")).status, 200);
  assert.equal((await patch(undefined, "none")).status, 200);
});

Deno.test("saying again what is so changes nothing and wakes nobody", async () => {
  await using ground = await ApiGround.start();
  const body = { name: "a", roleAttributes: ["x"], tags: { b: 1, a: 2 } };
  const service = await ground.make("/services", body);
  const again = await ground.call("PUT", `/services/${service.id}`, {
    body: { ...body, tags: { a: 2, b: 1 }, encryptionRequired: true },
  });
  assert.deepEqual(again.json, service);
  assert.equal(await ground.store.revision(), service.revision);
});

Deno.test("egress policies: a change is a new version, one is active, what is wrong is named", async () => {
  await using ground = await ApiGround.start();
  const first = await ground.make("/policies", { name: "default", version: "1.0", document: EGRESS });
  assert.deepEqual([first.name, first.version, first.active], ["default", "1.0", false]);
  assert.equal(
    (await ground.call("POST", "/policies", { body: { name: "default", document: EGRESS } })).status,
    409,
  );
  const broken = {
    clients: { "#all": { rules: [{ id: "a", type: "ip_cidr", action: "allow", destinations: ["x"] }] } },
  };
  const refused = await ground.call("PUT", `/policies/${first.id}`, { body: { document: broken } });
  assert.equal(refused.status, 400);
  assert.deepEqual(
    refused.json.errors.map(({ field }: { field: string }) => field),
    ['document.clients."#all".rules[0].destinations[0]'],
  );

  const path = (id: string, action: string) => `/policies/${id}/${action}`;
  assert.equal((await ground.call("POST", path(first.id, "activate"))).json.active, true);
  const put = await ground.call("PUT", `/policies/${first.id}`, {
    body: { document: { ...EGRESS, default_action: "drop" }, description: "stricter" },
  });
  assert.equal(put.status, 201);
  assert.deepEqual([put.json.version, put.json.active], ["1", false]);
  assert.equal(put.headers.get("location"), `/api/v1/policies/${put.json.id}`);
  const same = await ground.call("PUT", `/policies/${first.id}`, {
    body: { version: "1.0", document: EGRESS },
  });
  assert.equal(same.status, 409);
  assert.equal((await ground.call("GET", `/policies/${first.id}`)).json.document.default_action, undefined);
  assert.equal((await ground.call("DELETE", `/policies/${first.id}`)).status, 409);

  await Promise.all(
    [first.id, put.json.id, first.id, put.json.id].map((id) => ground.call("POST", path(id, "activate"))),
  );
  const active = await ground.call("GET", "/policies?active=true");
  assert.equal(active.json.meta.total, 1);
  const other = active.json.data[0].id === first.id ? put.json.id : first.id;
  assert.equal((await ground.call("DELETE", `/policies/${other}`)).status, 204);
  assert.equal((await ground.call("POST", path(active.json.data[0].id, "deactivate"))).json.active, false);
});

Deno.test("acceptance S3: addresses are given, found, refreshed, released, and run out with 503", async () => {
  await using ground = await ApiGround.start({ pool: "10.100.0.0/29" });
  const allocate = (client_id: string) => ground.call("POST", "/ipam/allocations", { body: { client_id } });
  const first = await ground.call("POST", "/ipam/allocations", {
    body: { client_id: "client-1", metadata: { region: "eu" } },
  });
  assert.equal(first.status, 201);
  assert.deepEqual(Object.keys(first.json).sort(), [
    "allocated_at",
    "client_id",
    "last_seen_at",
    "metadata",
    "virtual_ip",
    "virtual_ip6",
  ]);
  assert.equal(first.json.virtual_ip, "10.100.0.2");
  assert.deepEqual(first.json.metadata, { region: "eu" });
  const again = await allocate("client-1");
  assert.deepEqual([again.status, again.json.virtual_ip], [200, "10.100.0.2"]);
  for (let i = 2; i <= 5; i++) assert.equal((await allocate(`client-${i}`)).status, 201);
  const full = await allocate("client-6");
  assert.equal(full.status, 503);
  assert.equal(full.json.type, "urn:ginnel:problem:exhausted");
  const stats = await ground.call("GET", "/ipam/stats");
  assert.deepEqual([stats.json.total, stats.json.allocated, stats.json.available], [5, 5, 0]);

  ground.now += 5_000;
  const refreshed = await ground.call("PUT", "/ipam/allocations/client-1/refresh");
  assert.equal(refreshed.json.last_seen_at, new Date(ground.now).toISOString());
  assert.equal((await ground.call("PUT", "/ipam/allocations/nobody/refresh")).status, 404);
  assert.equal((await ground.call("DELETE", "/ipam/allocations/client-1")).status, 204);
  assert.equal((await ground.call("DELETE", "/ipam/allocations/client-1")).status, 404);
  assert.equal((await ground.call("GET", "/ipam/allocations/client-1")).status, 404);
  const id = "spiffe://test.internal/agent/alice";
  assert.equal((await allocate(id)).status, 201);
  const found = await ground.call("GET", `/ipam/allocations/${encodeURIComponent(id)}`);
  assert.equal(found.json.client_id, id);
  const list = await ground.call("GET", "/ipam/allocations?limit=2");
  assert.deepEqual([list.json.data.length, list.json.meta.total], [2, 5]);
});

Deno.test("relays, connectors and sessions are shown; ending a session tells its relay and the audit log", async () => {
  await using ground = await ApiGround.start();
  const relay = await ground.make("/identities", {
    name: "relay-1",
    type: "relay",
    address: "relay.example:4433",
  });
  const connector = await ground.make("/identities", { name: "c", type: "connector" });
  const { now } = ground;
  await ground.store.putRelay({
    identity: relay.spiffeId,
    revision: 3,
    version: "0.1.0",
    sessions: 1,
    lastSeenAt: now,
  });
  const session = {
    id: "s1",
    relay: relay.spiffeId,
    identity: connector.spiffeId,
    kind: "connector" as const,
    remote: "192.0.2.7:5",
    services: ["web"],
    openedAt: now,
    lastSeenAt: now,
    closedAt: null,
  };
  await ground.store.putSessions([session]);
  const { json: relays } = await ground.call("GET", "/relays");
  assert.deepEqual(relays.data.map((entry: object) => Object.values(entry)), [
    [
      relay.id,
      "relay-1",
      relay.spiffeId,
      "relay.example:4433",
      false,
      3,
      "0.1.0",
      1,
      new Date(now).toISOString(),
    ],
  ]);
  const { json: connectors } = await ground.call("GET", "/connectors");
  assert.deepEqual(connectors.data[0].services, ["web"]);
  assert.deepEqual(connectors.data[0].relays, [relay.spiffeId]);
  const open = await ground.call(
    "GET",
    `/sessions?open=true&identity=${encodeURIComponent(connector.spiffeId)}`,
  );
  assert.equal(open.json.data[0].id, "s1");
  assert.equal((await ground.call("DELETE", "/sessions/s2")).status, 404);
  assert.equal((await ground.call("DELETE", "/sessions/s1")).status, 204);
  assert.deepEqual(ground.ended, [session]);
  const [entry] = await ground.store.queryAudit({ target: "session/s1", limit: 1 });
  assert.equal(entry?.detail.identity, connector.spiffeId);
});

Deno.test("every change is in the audit log with who, what, before and after; and can be asked for", async () => {
  await using ground = await ApiGround.start();
  const service = await ground.make("/services", { name: "web", roleAttributes: ["a"] });
  await ground.call("PATCH", `/services/${service.id}`, { body: { roleAttributes: ["b"] } });
  await ground.call("DELETE", `/services/${service.id}`);
  const { json } = await ground.call("GET", "/audit?service=service/web");
  const seen = json.data.map((
    { detail, who }: { detail: Record<string, { roleAttributes?: string[] }>; who: string },
  ) => [
    detail.action,
    detail.before?.roleAttributes,
    detail.after?.roleAttributes,
    who.startsWith("token:"),
  ]);
  assert.deepEqual(seen, [
    ["delete", ["b"], undefined, true],
    ["update", ["a"], ["b"], true],
    ["create", undefined, ["a"], true],
  ]);
  const page = await ground.call("GET", "/audit?service=service/web&limit=2");
  const rest = await ground.call("GET", `/audit?service=service/web&limit=2&cursor=${page.json.meta.cursor}`);
  assert.equal(rest.json.data.length, 1);
  assert.equal(rest.json.meta.cursor, null);
  const later = new Date(ground.now + 1).toISOString();
  assert.equal((await ground.call("GET", `/audit?since=${later}`)).json.data.length, 0);
  assert.equal((await ground.call("GET", "/audit?event=connect")).json.data.length, 0);
});

Deno.test("errors are problem documents [RFC9457-3] [RFC9457-3.1]", async () => {
  await using ground = await ApiGround.start();
  const answers = await Promise.all([
    ground.call("GET", `/services/${crypto.randomUUID()}`),
    ground.call("GET", "//nowhere"),
    ground.call("POST", "/services", { body: { name: 1 } }),
    ground.call("GET", "/services", { token: null }),
  ]);
  for (const { status, json, headers } of answers) {
    assert.equal(headers.get("content-type"), "application/problem+json");
    assert.equal(json.status, status);
    assert.match(json.type, /^urn:ginnel:problem:[a-z-]+$/);
    assert.ok(json.title.length > 0);
  }
});

Deno.test("probes, the network, and who one is", async () => {
  await using ground = await ApiGround.start();
  for (const path of ["//health", "//ready", "//.well-known/health-check"]) {
    const { status, json } = await ground.call("GET", path, { token: null });
    assert.deepEqual([status, json.status, json.uptime], [200, "ok", 5]);
  }
  const { json } = await ground.call("GET", "/network");
  assert.equal(json.trustDomain, "test.internal");
  assert.match(json.roots[0], /BEGIN CERTIFICATE/);
  const scoped = await ground.tokenOf("operator", ["services"]);
  const { json: me } = await ground.call("GET", "/whoami", { token: scoped });
  assert.deepEqual([me.role, me.scopes], ["operator", ["services"]]);
});
