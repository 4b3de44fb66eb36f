/**
 * A remote relay in enemy hands: it has a relay's certificate and key, and with these it learns what relays must know and
 * nothing more, speaks for itself alone, and can make nodes believe nothing that the network's authority did not sign.
 */

import assert from "node:assert/strict";
import { createAuthority, loadAuthority } from "../../src/identity/authority.ts";
import { createCaDirectory } from "../../src/identity/ca_directory.ts";
import { makeCsr } from "../../src/identity/csr.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { readJwsPayload } from "../../src/identity/jws.ts";
import { generateKeyPair } from "../../src/identity/key_pair.ts";
import { type NetworkDocument, signNetworkDocument } from "../../src/identity/network_document.ts";
import { signView } from "../../src/identity/view.ts";
import type { ControllerHttp } from "../../src/io/controller/https_client.ts";
import { controllerClient } from "../../src/modes/enrol/controller_client.ts";
import { ControllerGround } from "../support/controller_ground.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { proxyStatus } from "../support/local_client.ts";
import { searchMemory } from "../support/process_memory.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { RogueRelay, viewLine, viewOf } from "../support/rogue_relay.ts";

type Json = Readonly<Record<string, unknown>>;

Deno.test("what a relay's certificate opens at the controller", async (t) => {
  await using ground = await ControllerGround.create();
  await ground.open(["web"]);
  const honest = await ground.relay({ separate: true });
  const alice = await ground.agent();
  const rogue = await ground.enrol("relay", "relay-9", { address: "127.0.0.1:9" });
  using http = await clientOf(rogue.path);
  const ask = async (method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE", path: string, json?: unknown) => {
    const answer = await http.request({ method, path, ...(json === undefined ? {} : { json }) });
    return { status: answer.status, json: answer.json as Json };
  };
  const sessions = async () => {
    const { json } = await ground.api("GET", "/sessions?open=true");
    return (json as { data: { id: string; identity: string; relay: string }[] }).data;
  };
  const [session] = await eventually(async () => {
    const found = (await sessions()).filter(({ identity }) => identity === alice.spiffeId);
    return found.length > 0 && found;
  });

  await t.step(
    "of the administrators' API addresses alone, and no other identity's certificate",
    async () => {
      const document = (await ask("GET", "/openapi.json")).json as { paths: Record<string, Json> };
      let refused = 0;
      for (const [path, methods] of Object.entries(document.paths)) {
        const collection = /^\/api\/v1\/([^/]+)/.exec(path)?.[1];
        if (collection === undefined || ["ipam", "whoami", "version"].includes(collection)) continue;
        for (const method of Object.keys(methods)) {
          const target = path.replaceAll(/\{[^}]+\}/g, alice.id);
          const { status } = await ask(
            method.toUpperCase() as "GET",
            target,
            method === "get" ? undefined : {},
          );
          assert.equal(status, 403, `${method} ${path}`);
          refused++;
        }
      }
      assert.ok(refused > 40, `${refused} routes`);
      const csr = await makeCsr(await generateKeyPair(), alice.spiffeId);
      assert.equal((await ask("POST", "/enrolment/v1/renew", { csr })).status, 400);
    },
  );

  await t.step(
    "it is told of identities, services and policies, but of no token, role, login or hash",
    async () => {
      const heard: string[] = [];
      const ending = new AbortController();
      const { lines } = await http.lines({ method: "GET", path: "/sync/v1/stream", signal: ending.signal });
      const listening = (async () => {
        for await (const line of lines) heard.push(line);
      })().catch(() => {/* ended below */});
      const token = await ground.make("/api-tokens", { name: "told", role: "viewer" });
      const provider = { name: "idp", issuer: "https://idp.example", clientId: "client-of-idp" };
      await ground.make("/auth-providers", provider);
      const chief = await ground.invite("agent", "chief");
      assert.equal(
        (await ground.api("PATCH", `/identities/${chief.id}`, { adminRole: "admin" })).status,
        200,
      );
      await ground.make("/services", { name: "told-service" });
      await eventually(() => heard.join().includes("told-service") && heard.join().includes("agent/chief"));
      ending.abort();
      await listening;
      const secrets = [
        String(token.token),
        String(token.id),
        chief.token,
        provider.clientId,
        provider.issuer,
      ];
      for (const secret of [...secrets, "adminRole", "secretHash", "externalId", ground.token]) {
        assert.ok(!heard.join().includes(secret), secret);
      }
    },
  );

  await t.step("no relay holds the authority's or the CA's key, on disk or in memory", async () => {
    const { data } = ground.controllers[0]!;
    const authority = JSON.parse(await Deno.readTextFile(`${data}/ca/authority.key`));
    const caKey = (await Deno.readTextFile(`${data}/ca/ca.key`)).replaceAll(/-----[^-]+-----|\s/g, "");
    // What comes first in a PKCS #8 key is the same in all.
    const keys = [String(authority.d), caKey.slice(60, 100)];
    const files = await textsBelow(`${ground.folder}/relay-1.data`);
    files.push(await Deno.readTextFile(honest.path));
    assert.ok(files.length > 3);
    for (const text of files) {
      for (const key of keys) assert.ok(!text.includes(key), "a key in a relay's file");
    }
    const { found } = await searchMemory(honest.process!.pid, [...keys, honest.spiffeId]);
    assert.deepEqual(found, [honest.spiffeId], "in its memory the search sees only what is there");
  });

  await t.step("it reports in its own name, whatever it says, and never as an administrator", async () => {
    const fact = {
      time: Date.now(),
      who: alice.spiffeId,
      target: "web",
      outcome: "open",
      detail: { fake: true },
    };
    const report = {
      batch: "batch-1",
      sessions: [{
        ...{ id: session!.id.split("~")[1], relay: honest.spiffeId, identity: alice.spiffeId, kind: "agent" },
        ...{ remote: "1.2.3.4:5", services: [], openedAt: 1, lastSeenAt: 1, closedAt: 2 },
      }],
      audit: [
        { ...fact, event: "connect", source: honest.spiffeId },
        { ...fact, event: "admin", who: "token:x", target: "service/web", source: honest.spiffeId },
        { ...fact, event: "enrol", source: honest.spiffeId },
      ],
      status: { identity: honest.spiffeId, revision: 999_999, version: "9", sessions: 0, lastSeenAt: 1 },
      isFirst: true,
    };
    for (let n = 0; n < 2; n++) assert.equal((await ask("POST", "/sync/v1/report", report)).status, 204);
    const { json } = await ground.api("GET", "/audit?limit=500");
    const written = (json as { data: { source: string; event: string; detail: Json }[] }).data
      .filter(({ detail }) => detail.fake === true);
    assert.deepEqual(written.map(({ event, source }) => [event, source]), [["connect", rogue.spiffeId]]);
    const still = (await sessions()).find(({ id }) => id === session!.id);
    assert.equal(still?.relay, honest.spiffeId, "another relay's session is not its to end");
    const relays = (await ground.api("GET", "/relays")).json as {
      data: { name: string; revision: number }[];
    };
    assert.ok(relays.data.find(({ name }) => name === "relay-1")!.revision < 999_999);
    const large = {
      ...report,
      batch: "b2",
      audit: [{ ...report.audit[0], detail: { x: "x".repeat(1 << 20) } }],
    };
    assert.equal((await ask("POST", "/sync/v1/report", large)).status, 400);
  });

  await t.step("it gets no address that is another's, and takes none from who is elsewhere", async () => {
    const { virtual_ip: address } = await makeAllocation(ground, alice.spiffeId);
    const own = await ask("POST", "/sync/v1/addresses", {
      identity: rogue.spiffeId,
      metadata: { virtualIp: address, virtual_ip: address },
    });
    assert.equal(own.status, 200);
    assert.notEqual((own.json.allocation as { virtualIp: string }).virtualIp, address);
    const again = await ask("POST", "/sync/v1/addresses", { identity: alice.spiffeId });
    assert.equal(
      (again.json.allocation as { virtualIp: string }).virtualIp,
      address,
      "the same at every relay",
    );
    const release = await ask("POST", "/sync/v1/addresses/release", { identity: alice.spiffeId });
    assert.deepEqual([release.status, release.json], [200, { released: false }]);
    const path = `/api/v1/ipam/allocations/${encodeURIComponent(alice.spiffeId)}`;
    assert.equal((await ask("DELETE", path)).status, 409);
    assert.equal((await makeAllocation(ground, alice.spiffeId)).virtual_ip, address);
    const nobody = await ask("POST", "/sync/v1/addresses", {
      identity: "spiffe://test.example/agent/nobody",
    });
    assert.deepEqual(nobody.json, { ok: false, fault: "unknown" });
    const bulky = { identity: alice.spiffeId, metadata: { x: "x".repeat(10_000) } };
    assert.equal((await ask("POST", "/sync/v1/addresses", bulky)).status, 400);
    const ownRelease = await ask("POST", "/sync/v1/addresses/release", { identity: rogue.spiffeId });
    assert.deepEqual(ownRelease.json, { released: true }, "its own it may give back");
  });

  await t.step(
    "nobody else gets in by the relays' door, and a disabled relay is out within a second",
    async () => {
      using agent = await clientOf(alice.path);
      const routes = [
        "stream",
        "views",
        "report",
        "addresses",
        "addresses/touch",
        "addresses/release",
        "workloads",
      ];
      for (const route of routes) {
        const method = route === "stream" ? "GET" : route === "views" ? "PUT" : "POST";
        const request = {
          method,
          path: `/sync/v1/${route}`,
          ...(method === "GET" ? {} : { json: {} }),
        } as const;
        assert.equal((await agent.request(request)).status, 403, route);
        assert.equal(
          (await ground.api(method, `/sync/v1/${route}`, method === "GET" ? undefined : {})).status,
          401,
        );
      }
      const { lines } = await http.lines({ method: "GET", path: "/sync/v1/stream" });
      assert.equal((await ground.api("POST", `/identities/${rogue.id}/disable`)).status, 200);
      const answered = performance.now();
      await assert.rejects(async () => {
        for await (const _line of lines);
        throw new Error("ended");
      });
      assert.ok(performance.now() - answered < 1_000);
      assert.equal((await ask("GET", "/sync/v1/stream")).status, 401);
    },
  );
});

Deno.test("nodes believe no network document and no view that a relay has changed", async () => {
  await using ground = await ControllerGround.create();
  using upstream = new RecordingUpstream();
  await ground.open(["web"]);
  const port = freePort();
  const { path } = await ground.enrol("relay", "relay-9", { address: `127.0.0.1:${port}` });
  await using rogue = await RogueRelay.start({ issue: () => Promise.resolve(path) }, {}, {
    name: "relay-9",
    port,
  });
  const config = { carrier: "quic" };
  const connector = await ground.connector({ services: { web: upstream.url }, config });
  const agent = await ground.agent({ config });
  for (const node of [connector, agent]) await node.waitForLine(/"relay_connected".*"relay":"relay-9"/);

  using http = await clientOf(agent.path);
  const { json } = await http.request({ method: "GET", path: "/enrolment/v1/network" });
  const { network: genuine } = json as { readonly network: string };
  const document = readJwsPayload(genuine) as unknown as NetworkDocument;
  const authority = await loadAuthority(`${ground.controllers[0]!.data}/ca/authority.key`);
  const stranger = await createAuthority();
  const { ca } = await createCaDirectory(`${ground.folder}/evil`, {
    ...{ trustDomain: "test.example", now: Date.now(), days: 2 },
  });
  const evil: NetworkDocument = {
    ...document,
    rev: document.rev + 10,
    roots: [...document.roots, ca.certificatePem],
    authorities: [...document.authorities, stranger.publicJwk],
    relays: [{ name: "evil", address: "127.0.0.1:1" }],
  };
  const posing = { ...stranger, kid: authority.kid };
  const [header, , signature] = genuine.split(".");
  const documents: [code: string, jws: string][] = [
    ["ERR_NETWORK_DOCUMENT_AUTHORITY", await signNetworkDocument(stranger, evil)],
    ["ERR_NETWORK_DOCUMENT_SIGNATURE", await signNetworkDocument(posing, evil)],
    [
      "ERR_NETWORK_DOCUMENT_SIGNATURE",
      `${header}.${(await signNetworkDocument(posing, evil)).split(".")[1]}.${signature}`,
    ],
    [
      "ERR_NETWORK_DOCUMENT_TRUST_DOMAIN",
      await signNetworkDocument(authority, { ...evil, trustDomain: "other.example" }),
    ],
    // Signed by the authority, for another purpose.
    [
      "ERR_NETWORK_DOCUMENT_MALFORMED",
      await signView({ authority, view: viewOf({ who: agent.spiffeId }) }),
    ],
  ];
  for (const node of [agent, connector]) {
    const before = await loadIdentity(node.path);
    const lines = documents.map(([, jws]) => JSON.stringify({ type: "network", jws }));
    await rogue.show(node.spiffeId, ...lines);
    const reasons = await eventually(() => {
      const found = events(node, "network_refused").map(({ reason }) => reason);
      return found.length >= documents.length && found;
    });
    assert.deepEqual(reasons, documents.map(([code]) => code), node.name);
    const after = await loadIdentity(node.path);
    assert.deepEqual([after.trust, after.network], [before.trust, before.network], "nothing of it is kept");

    const dial = { who: agent.spiffeId, dial: { web: ["connector-1"] } };
    const bind = { who: connector.spiffeId, bind: { web: ["alice"] } };
    const [rights, others] = node === agent ? [dial, bind] : [bind, dial];
    const view = await signView({ authority, view: viewOf(rights) });
    const [viewHeader, , viewSignature] = view.split(".");
    const forged = await signView({ authority: posing, view: viewOf(rights, { rev: 9 }) });
    const views: [code: string, jws: string][] = [
      ["ERR_VIEW_AUTHORITY", await signView({ authority: stranger, view: viewOf(rights) })],
      ["ERR_VIEW_SIGNATURE", forged],
      ["ERR_VIEW_SIGNATURE", `${viewHeader}.${forged.split(".")[1]}.${viewSignature}`],
      ["ERR_VIEW_SUBJECT", await signView({ authority, view: viewOf(others) })],
    ];
    await rogue.show(node.spiffeId, ...views.map(([, jws]) => viewLine(jws)));
    const refused = await eventually(() => {
      const found = events(node, "view_refused").map(({ reason }) => reason);
      return found.length >= views.length && found;
    });
    assert.deepEqual(refused, views.map(([code]) => code), node.name);
    if (node === agent) assert.notEqual(await proxyStatus(agent.httpProxy, "web"), 200, "no view: no right");
    // What the authority did sign is believed, whoever brings it.
    await rogue.show(node.spiffeId, viewLine(view));
    await node.waitForLine(/"view_accepted"/);
  }
  assert.equal(upstream.connections.length, 0);
  const next = await signNetworkDocument(authority, { ...document, rev: document.rev + 20 });
  await rogue.show(agent.spiffeId, JSON.stringify({ type: "network", jws: next }));
  await agent.waitForLine(new RegExp(`"network_updated".*"revision":${document.rev + 20}`));
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 200, "and the relay carries what it cannot read");
});

/** A client that shows proofs of the identity in a file. */
async function clientOf(path: string): Promise<ControllerHttp> {
  const identity = await loadIdentity(path);
  return controllerClient(() => identity);
}

async function makeAllocation(ground: ControllerGround, clientId: string): Promise<{ virtual_ip: string }> {
  const { status, json } = await ground.api("POST", "/ipam/allocations", { client_id: clientId });
  assert.ok(status === 200 || status === 201, String(status));
  return json as { virtual_ip: string };
}

/** What a node logged of one kind. */
function events(node: { readonly lines: readonly string[] }, event: string): Record<string, unknown>[] {
  return node.lines.map((line) => JSON.parse(line)).filter((entry) => entry.event === event);
}

async function textsBelow(folder: string): Promise<string[]> {
  const texts: string[] = [];
  for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
    if (isDirectory) texts.push(...await textsBelow(`${folder}/${name}`));
    else if (isFile) texts.push(await Deno.readTextFile(`${folder}/${name}`));
  }
  return texts;
}
