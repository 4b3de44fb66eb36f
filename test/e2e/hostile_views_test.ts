/**
 * Real agents and connectors at a relay that lies about rights: they believe the authority's signature and nothing
 * else, so a relay can withhold rights, but not make them up, lend them or bring them back.
 */

import assert from "node:assert/strict";
import { type Authority, createAuthority, loadAuthority } from "../../src/identity/authority.ts";
import { signView } from "../../src/identity/view.ts";
import { eventually } from "../support/eventually.ts";
import { askProxy, proxyStatus } from "../support/local_client.ts";
import { type AgentNode, type ConnectorNode, Network, spiffeId } from "../support/network.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { type Rights, RogueRelay, viewLine, viewOf } from "../support/rogue_relay.ts";

const ALICE: Rights = { who: spiffeId("agent", "alice"), dial: { web: ["connector-1"] } };
const BOB: Rights = { who: spiffeId("agent", "bob"), dial: { web: ["connector-1"] } };
const CONNECTOR: Rights = { who: spiffeId("connector", "connector-1"), bind: { web: ["alice"] } };
const NOTHING: Rights = { who: ALICE.who };

Deno.test("an agent believes no view that is forged, altered, lent, of the future or past, or no view at all", async () => {
  await using world = await openWorld();
  const { authority, rogue, agent } = world;
  const stranger = await createAuthority();
  const posing: Authority = { ...stranger, kid: authority.kid };
  const good = await signView({ authority, view: viewOf(ALICE) });
  const [header, claims, signature] = good.split(".");
  const [, richer] = (await signView({ authority: posing, view: viewOf(ALICE, { rev: 9 }) })).split(".");
  const bad: [code: string, jws: string][] = [
    ["ERR_VIEW_AUTHORITY", await signView({ authority: stranger, view: viewOf(ALICE) })],
    ["ERR_VIEW_SIGNATURE", await signView({ authority: posing, view: viewOf(ALICE) })],
    ["ERR_VIEW_SIGNATURE", `${header}.${richer}.${signature}`],
    ["ERR_VIEW_SUBJECT", await signView({ authority, view: viewOf(BOB) })],
    ["ERR_VIEW_EXPIRED", await signView({ authority, view: viewOf(ALICE, { ageSeconds: 7_200 }) })],
    ["ERR_VIEW_NOT_YET_VALID", await signView({ authority, view: viewOf(ALICE, { ageSeconds: -7_200 }) })],
    ["ERR_VIEW_ALGORITHM", `${btoa('{"alg":"none"}').replaceAll("=", "")}.${claims}.${signature}`],
  ];
  await rogue.show(ALICE.who, ...bad.map(([, jws]) => viewLine(jws)));
  const reasons = await eventually(() => {
    const found = reasonsOf(agent);
    return found.length >= bad.length && found;
  });
  assert.deepEqual(reasons, bad.map(([code]) => code));
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 503, "no valid view: deny");
  await rogue.show(ALICE.who, viewLine(good));
  await agent.waitForLine(/"view_accepted"/);
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 200, "the true one is believed at once");
});

Deno.test("an agent does not go back to an older view that granted more", async () => {
  await using world = await openWorld();
  const { authority, rogue, agent } = world;
  const older = await signView({ authority, view: viewOf(ALICE, { rev: 10 }) });
  await rogue.show(ALICE.who, viewLine(older));
  await agent.waitForLine(/"view_accepted".*"revision":10/);
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 200);
  await rogue.show(ALICE.who, viewLine(await signView({ authority, view: viewOf(NOTHING, { rev: 20 }) })));
  await agent.waitForLine(/"view_accepted".*"revision":20/);
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 403);
  await rogue.show(ALICE.who, viewLine(older));
  await agent.waitForLine(/"view_refused".*ERR_VIEW_OUTDATED/);
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 403);
});

Deno.test("a connector serves nobody without a view of its own, however the relay vouches for the caller", async () => {
  await using world = await openWorld({ withoutConnectorView: true });
  const { authority, rogue, agent, connector, web } = world;
  await rogue.show(ALICE.who, viewLine(await signView({ authority, view: viewOf(ALICE) })));
  await agent.waitForLine(/"view_accepted"/);
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 403);
  // A view that lets bob in is none that lets alice in, and alice's own is not the connector's.
  const forBob: Rights = { ...CONNECTOR, bind: { web: ["bob"] } };
  await rogue.show(
    CONNECTOR.who,
    viewLine(await signView({ authority, view: viewOf(ALICE) })),
    viewLine(await signView({ authority, view: viewOf(forBob) })),
  );
  await connector.waitForLine(/"view_accepted"/);
  assert.deepEqual(reasonsOf(connector), ["ERR_VIEW_SUBJECT"]);
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 403);
  assert.equal(web.connections.length, 0);
  await rogue.show(
    CONNECTOR.who,
    viewLine(await signView({ authority, view: viewOf(CONNECTOR, { rev: 2 }) })),
  );
  await connector.waitForLine(/"view_accepted".*"revision":2/);
  assert.equal(await proxyStatus(agent.httpProxy, "web"), 200);
});

Deno.test("a right that a view takes away ends live flows, though the relay would carry on", async () => {
  for (const loser of ["agent", "connector"] as const) {
    await using world = await openWorld();
    const { authority, rogue, agent, web } = world;
    await rogue.show(ALICE.who, viewLine(await signView({ authority, view: viewOf(ALICE) })));
    await agent.waitForLine(/"view_accepted"/);
    const open = await askProxy(agent.httpProxy, "web");
    assert.equal(open.status, 200);
    const started = performance.now();
    const less: Rights = loser === "agent" ? NOTHING : { who: CONNECTOR.who };
    await rogue.show(less.who, viewLine(await signView({ authority, view: viewOf(less, { rev: 2 }) })));
    await assert.rejects(open.client.readToEnd(), Deno.errors.ConnectionReset, loser);
    await eventually(() => web.connections[0]!.end !== "open");
    assert.equal(web.connections[0]!.end, "reset", loser);
    assert.ok(performance.now() - started < 1_000, `${loser}: within a second`);
  }
});

Deno.test("nonsense on the view stream costs the relay the connection, and the node nothing", async () => {
  await using world = await openWorld();
  const { authority, rogue, agent } = world;
  const good = viewLine(await signView({ authority, view: viewOf(ALICE) }));
  // Said again at each new connection.
  rogue.behaviour.views = (who) => who === ALICE.who ? [JSON.parse(good).jws] : [];
  for (
    const nonsense of ["not JSON", `{"type":"view","jws":"`, '{"type":"view"}', "[]", "x".repeat(5 << 20)]
  ) {
    await rogue.show(ALICE.who, nonsense).catch(() => {/* cut off while still talking */});
  }
  await agent.waitForLine(/"relay_lost"/);
  await eventually(async () => await proxyStatus(agent.httpProxy, "web") === 200, { timeout: 20_000 });
});

/** Codes of the views a node refused, in order. */
function reasonsOf(node: { readonly lines: readonly string[] }): string[] {
  return node.lines.map((line) => JSON.parse(line))
    .filter(({ event }) => event === "view_refused")
    .map(({ reason }) => reason);
}

/** Alice's agent and connector-1 at a rogue relay, which shows the agent no view yet. */
interface World extends AsyncDisposable {
  readonly authority: Authority;
  readonly rogue: RogueRelay;
  readonly agent: AgentNode;
  readonly connector: ConnectorNode;
  readonly web: RecordingUpstream;
}

async function openWorld({ withoutConnectorView = false } = {}): Promise<World> {
  const stack = new AsyncDisposableStack();
  const network = stack.use(await Network.create());
  const authority = await loadAuthority(`${network.folder}/ca/authority.key`);
  const jws = await signView({ authority, view: viewOf(CONNECTOR) });
  const rogue = stack.use(
    await RogueRelay.start(network, {
      views: (who) => who === CONNECTOR.who && !withoutConnectorView ? [jws] : [],
    }),
  );
  const web = stack.use(new RecordingUpstream());
  const config = { carrier: "quic" };
  const connector = await network.connector({ relays: [rogue], services: { web: web.url }, config });
  const agent = await network.agent({ relays: [rogue], config });
  return { authority, rogue, agent, connector, web, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}
