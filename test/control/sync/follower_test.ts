/** A relay's follower keeps up with its controller, and with what it knows while there is none. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { createLogger, SILENT_LOGGER } from "../../../src/base/log.ts";
import {
  type FollowerCache,
  NetworkFollower,
  type NetworkFollowerOptions,
} from "../../../src/control/sync/follower.ts";
import type { ControllerLink } from "../../../src/control/sync/link.ts";
import { EPOCH_SETTING } from "../../../src/core/network/epoch.ts";
import { SnapshotCache } from "../../../src/store/snapshot_cache.ts";
import { configSpec } from "../../store/store_ground.ts";
import { eventually } from "../../support/eventually.ts";
import { idOf, SyncGround, TRUST_DOMAIN } from "./sync_ground.ts";

const ALICE = idOf("agent/alice");
const HOST = idOf("connector/host");

function follow(
  link: ControllerLink,
  options: Partial<NetworkFollowerOptions> = {},
): Promise<NetworkFollower> {
  return NetworkFollower.open({
    link,
    cache: undefined,
    trustDomain: TRUST_DOMAIN,
    logger: SILENT_LOGGER,
    now: Date.now,
    ...options,
  });
}

async function withService(ground: SyncGround): Promise<{ readonly alice: string }> {
  const alice = await ground.addIdentity("alice", { roleAttributes: ["users"] });
  await ground.addIdentity("host", { type: "connector", spiffeId: HOST, roleAttributes: ["hosts"] });
  await ground.addService("web");
  await ground.feed.refresh();
  return { alice };
}

Deno.test("a follower refuses a controller of another network", async () => {
  await using ground = await SyncGround.open();
  const said = await awaitInVain(ground.localLink(), { trustDomain: "another.example" });
  assert.match(said, /of the network example\.internal/);
});

Deno.test("disabling an identity takes its rights at once, those by #all and by name too", async () => {
  await using ground = await SyncGround.open();
  const { alice } = await withService(ground);
  await ground.store.transaction(async (tx) => {
    const roles = { identityRoles: ["#all", "@alice"], serviceRoles: ["#all"] };
    const spec = { type: "Dial", semantic: "AnyOf", ...roles, tags: {} } as const;
    await tx.create("service-policy", { name: "everybody", spec });
  });
  await ground.feed.refresh();
  await using follower = await follow(ground.localLink());
  assert.equal(follower.policy.mayDial(ALICE, "web").verdict, "allow");
  assert.equal(follower.isAdmitted(ALICE), true);
  assert.equal(follower.policy.mayDial(idOf("agent/unknown"), "web").verdict, "deny");
  const heard: string[] = [];
  follower.onChange((what) => heard.push(...what));
  await ground.changeIdentity(alice, { disabled: true });
  await eventually(() => !follower.isAdmitted(ALICE), { timeout: 1_000 });
  assert.equal(follower.policy.mayDial(ALICE, "web").verdict, "deny");
  assert.deepEqual(heard, ["policy"]);
});

Deno.test("a revoked serial is refused although its identity is enabled", async () => {
  await using ground = await SyncGround.open();
  const { alice } = await withService(ground);
  await using follower = await follow(ground.localLink());
  await ground.store.transaction(async (tx) => {
    const times = { issuedAt: Date.now(), notAfter: Date.now() + 60_000, revokedAt: Date.now() };
    await tx.addCertificate({ serial: "AB", identityId: alice, spiffeId: ALICE, issuer: "ca", ...times });
  });
  const heard: string[] = [];
  follower.onChange((what) => heard.push(...what));
  await eventually(() => heard.includes("trust"));
  assert.equal(follower.isAdmitted(ALICE, "AB"), false);
  assert.equal(follower.isAdmitted(ALICE, "AC"), true);
});

Deno.test("a workload is admitted at its first contact, and is known then", async () => {
  await using ground = await SyncGround.open();
  await using follower = await follow(ground.localLink());
  const id = "spiffe://other.example/web";
  assert.equal(await follower.admits(id), false);
  await ground.store.transaction(async (tx) => {
    const rules = [{ path: "web", roleAttributes: ["users"] }];
    const spec = { roots: ["PEM"], rules, disabled: false };
    await tx.create("trust-domain", { name: "other.example", spec });
  });
  await eventually(() => follower.foreign.length === 1);
  assert.deepEqual(follower.foreign, [{ domain: "other.example", roots: ["PEM"] }]);
  assert.equal(await follower.admits(id), true);
  assert.equal(follower.isAdmitted(id), true);
  assert.equal(await follower.admits(idOf("agent/ghost")), false);
});

Deno.test("views reach their subscribers and change with the policy", async () => {
  await using ground = await SyncGround.open();
  await withService(ground);
  await using follower = await follow(ground.localLink());
  const views: string[] = [];
  const stop = follower.subscribeView(ALICE, (jws) => views.push(jws));
  await eventually(() => views.length === 1);
  await ground.addService("more");
  await eventually(() => views.length === 2);
  stop();
  // Somebody who comes back has the view at once.
  const again: string[] = [];
  follower.subscribeView(ALICE, (jws) => again.push(jws));
  assert.deepEqual(again, [views[1]]);
});

Deno.test("a relay hears that its controller was restored from a backup, and of nothing else as that", async () => {
  await using ground = await SyncGround.open();
  await using follower = await follow(ground.localLink());
  let restored = 0;
  follower.onRestored(() => restored++);
  // A slow relay gets a snapshot of the same history too.
  await ground.store.transaction(async (tx) => {
    for (let n = 0; n < 2_001; n++) await tx.create("config", { name: `config-${n}`, spec: configSpec() });
  });
  const revision = await ground.store.revision();
  await eventually(() => follower.state.revision === revision);
  assert.equal(restored, 0);
  await ground.store.setSetting(EPOCH_SETTING, "another");
  await eventually(() => restored === 1);
});

Deno.test("the network document reaches the relay and changes with what it says", async () => {
  await using ground = await SyncGround.open();
  await using follower = await follow(ground.localLink());
  const before = await eventually(() => follower.networkJws);
  await ground.addIdentity("relay-2", { type: "relay", spiffeId: idOf("relay/relay-2"), address: "b:1" });
  const after = await eventually(() => follower.networkJws !== before && follower.networkJws);
  const { relays } = JSON.parse(atob(after.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/")));
  assert.deepEqual(relays, [
    { name: "relay-1", address: "relay.example:4433" },
    { name: "relay-2", address: "b:1" },
  ]);
});

Deno.test("a relay starts from disk while its controller is away, says so, and catches up by itself", async () => {
  await using ground = await SyncGround.open();
  const { alice } = await withService(ground);
  const folder = join(ground.folder, "cache");
  const server = await ground.serve();
  const link = await ground.remoteLink();
  {
    await using cache = await SnapshotCache.open(folder, { logger: SILENT_LOGGER });
    await using follower = await follow(link, { cache });
    const views: string[] = [];
    follower.subscribeView(ALICE, (jws) => views.push(jws));
    await eventually(() => views.length > 0 && follower.networkJws);
    assert.equal(follower.status().connected, true);
  }
  await server.close();
  const { port } = link.server;
  await link.server.close();
  await using cache = await SnapshotCache.open(folder, { logger: SILENT_LOGGER });
  await using follower = await follow(link, { cache, patience: 50 });
  assert.equal(follower.status().connected, false);
  const { ageMs } = follower.status();
  assert.ok(ageMs !== undefined && ageMs < 60_000, `${ageMs}`);
  assert.match(follower.status().problem!, /controller/);
  assert.equal(follower.policy.mayDial(ALICE, "web").verdict, "allow");
  assert.ok(follower.networkJws);
  const views: string[] = [];
  follower.subscribeView(ALICE, (jws) => views.push(jws));
  assert.equal(views.length, 1);
  await ground.changeIdentity(alice, { disabled: true });
  await ground.serve(port);
  await eventually(() => follower.status().connected && !follower.isAdmitted(ALICE));
  assert.equal(follower.status().problem, undefined);
});

Deno.test("a relay whose cache is broken, or of another network, waits for its controller", async () => {
  await using ground = await SyncGround.open();
  const folder = join(ground.folder, "cache");
  await using cache = await SnapshotCache.open(folder, { logger: SILENT_LOGGER });
  const state = { ...ground.feed.state, trustDomain: "another.example" };
  cache.save({ epoch: "e", state, network: undefined });
  await cache.flush();
  const away: ControllerLink = { ...ground.localLink(), follow: unreachable };
  assert.match(await awaitInVain(away, { cache }), /nobody there/);
  await Deno.writeTextFile(join(folder, "network.json"), "{");
  assert.match(await awaitInVain(away, { cache }), /nobody there/);
});

/** Opens a follower that waits, until it has said why; returns that. */
async function awaitInVain(
  link: ControllerLink,
  options: { readonly cache?: FollowerCache; readonly trustDomain?: string },
): Promise<string> {
  const ending = new AbortController();
  let said = "";
  const logger = createLogger({
    write(line) {
      const { msg, event, detail } = JSON.parse(line);
      if ((msg ?? event) !== "controller_awaited" || !/controller not reached/.test(detail)) return;
      said = detail;
      ending.abort(new Error("given up"));
    },
  });
  await assert.rejects(follow(link, { ...options, logger, patience: 10, signal: ending.signal }), /given up/);
  return said;
}

function unreachable(): AsyncIterable<never> {
  return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(new Error("nobody there")) }) };
}
