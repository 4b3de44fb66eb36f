/**
 * Users of OpenID providers on a running network: what they get by a login follows from what their provider says, goes on
 * for as long as it says so, and is gone within a second when it is taken back.
 */

import assert from "node:assert/strict";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import { eventually } from "../support/eventually.ts";
import { type LoggedInUser, LoginNetwork } from "../support/login_network.ts";
import type { LongFlow } from "../support/long_flow.ts";
import { within } from "../support/within.ts";

/** Milliseconds after an answer in which what was taken back is gone everywhere. */
const LIMIT_MS = 1_000;

/** How long users' certificates live: agents renew them at two thirds of that. */
const USER_LIFE = "30s";

const PEOPLE = {
  clinic: [
    person("alice", ["doctors"]),
    person("bob", ["doctors"]),
    person("carol", ["doctors"]),
    person("dave", ["doctors"]),
    person("ivan", ["it"]),
    person("erin", ["auditors"]),
  ],
  // The same subject and the same name: somebody else all the same.
  partner: [person("alice", ["doctors"])],
};

Deno.test("users of OpenID providers, from their login to the end of it", async (t) => {
  await using network = await LoginNetwork.start(PEOPLE, { userLife: USER_LIFE });
  const { ground } = network;
  const clinic = network.provider("clinic");
  let alice!: LoggedInUser;
  let aliceFlow!: LongFlow;
  let firstEnd = 0;

  await t.step("a login in a browser, by a controller's URL alone, reaches what a group may", async () => {
    await network.loginByProgram("alice", "browser");
    firstEnd = (await loadIdentity(network.path("alice"))).notAfter;
    alice = await network.agentOf("alice");
    aliceFlow = await alice.flow();
    const { roleAttributes, derivedAttributes } = (await network.identity("alice"))!;
    assert.deepEqual([roleAttributes, derivedAttributes], [[], ["doctors"]]);
  });
  using _flow = aliceFlow;

  await t.step("so does one by a code at another device", async () => {
    await network.loginByProgram("bob", "device");
    using flow = await (await network.agentOf("bob")).flow();
    await flow.finish();
  });

  await t.step("somebody of that name at another provider is somebody else", async () => {
    const { code, out, err } = await network.login("other", { provider: "partner", person: "u-alice" });
    assert.equal(code, 0, err);
    const { identity } = JSON.parse(out);
    assert.match(identity, /\/user\/alice-[0-9a-f]{6}$/);
    const made = await network.identity(identity.slice(identity.lastIndexOf("/") + 1));
    assert.deepEqual(made!.derivedAttributes, ["partner-doctors"]);
    const other = await network.agentOf("other");
    await assert.rejects(other.flow());
    await aliceFlow.goesOn();
  });

  await t.step("a provider that replaces its keys is followed at once", async () => {
    await clinic.rotateKeys();
    const { code, err } = await network.login("carol");
    assert.equal(code, 0, err);
  });

  await t.step("a group that the provider takes back is a right lost with the next login", async () => {
    const carol = await network.agentOf("carol");
    using flow = await carol.flow();
    network.setGroups("u-carol", ["patients"]);
    await succeeds(() => network.refresh("carol"));
    await within(LIMIT_MS, () => flow.ended);
    await assert.rejects(carol.flow());
    network.setGroups("u-carol", ["doctors"]);
    await succeeds(() => network.refresh("carol"));
    using again = await eventually(() => carol.flow());
    await again.finish();
  });

  await t.step("a user who is disabled is out at once, and stays out", async () => {
    using flow = await (await network.agentOf("carol")).flow();
    const { id } = (await network.identity("carol"))!;
    assert.equal((await ground.api("POST", `/identities/${id}/disable`)).status, 200);
    await within(LIMIT_MS, () => flow.ended);
    for (const attempt of [() => network.login("carol"), () => network.refresh("carol")]) {
      const { code, err } = await attempt();
      assert.deepEqual([code, /This user is disabled: ask an administrator/.test(err)], [1, true], err);
    }
    assert.equal((await ground.api("POST", `/identities/${id}/enable`)).status, 200);
    await succeeds(() => network.login("carol"));
  });

  await t.step("an identity that is deleted comes back by a login with nothing that it had", async () => {
    await succeeds(() => network.login("dave"));
    const dave = await network.agentOf("dave");
    using flow = await dave.flow();
    const before = (await network.identity("dave"))!;
    const spiffeId = network.spiffeId("dave");
    await ground.api("PATCH", `/identities/${before.id}`, { roleAttributes: ["chief"], tags: { room: 7 } });
    assert.equal((await ground.api("POST", "/ipam/allocations", { client_id: spiffeId })).status, 201);
    assert.equal((await ground.api("DELETE", `/identities/${before.id}`)).status, 204);
    await within(LIMIT_MS, () => flow.ended);
    const allocation = `/ipam/allocations/${encodeURIComponent(spiffeId)}`;
    assert.equal((await ground.api("GET", allocation)).status, 404);
    await succeeds(() => network.login("dave"));
    const after = (await network.identity("dave"))!;
    assert.notEqual(after.id, before.id);
    assert.deepEqual([after.roleAttributes, after.derivedAttributes, after.tags], [[], ["doctors"], {}]);
    assert.equal((await ground.api("GET", allocation)).status, 404);
    using again = await eventually(() => dave.flow());
    await again.finish();
  });

  await t.step(
    "administrators are those whom the provider's groups say, by ID token or by login",
    async () => {
      const [admin, viewer, doctor] = await Promise.all(
        ["u-ivan", "u-erin", "u-bob"].map((who) => network.idToken(who)),
      );
      const statuses = async (token: string | undefined) => [
        (await ground.api("GET", "/whoami", undefined, { token })).status,
        (await ground.api("GET", "/services", undefined, { token })).status,
        (await ground.api("POST", "/services", { name: `by-${crypto.randomUUID()}` }, { token })).status,
      ];
      assert.deepEqual(await statuses(admin), [200, 200, 201]);
      assert.deepEqual(await statuses(viewer), [200, 200, 403]);
      assert.deepEqual(await statuses(doctor), [401, 401, 401]);
      const { json } = await ground.api("GET", "/whoami", undefined, { token: admin });
      assert.deepEqual(json, { who: `oidc:${clinic.issuer}|u-ivan`, role: "admin", scopes: [] });
      await succeeds(() => network.login("ivan"));
      const { out } = await network.api("ivan", "GET", "whoami");
      assert.deepEqual(JSON.parse(out), { who: network.spiffeId("ivan"), role: "admin", scopes: [] });
    },
  );

  await t.step("while the provider is away agents go on; who logs in is told what to do", async () => {
    const failed = count(alice, /"certificate_not_renewed"/);
    clinic.intercept = (request) => (request.socket.destroy(), true);
    const { code, err } = await network.login("erin");
    assert.equal(code, 1);
    assert.match(err, /Cannot reach the provider https:\/\/localhost:\d+: .*Try again once/);
    await eventually(() => count(alice, /"certificate_not_renewed"/) > failed, { timeout: 40_000 });
    await aliceFlow.goesOn();
    using flow = await alice.flow();
    await flow.finish();
    const renewed = count(alice, /"certificate_renewed"/);
    clinic.intercept = () => false;
    await eventually(() => count(alice, /"certificate_renewed"/) > renewed);
  });

  await t.step("certificates were renewed under a flow that outlived the first of them", async () => {
    await eventually(() => Date.now() > firstEnd, { timeout: 40_000 });
    await aliceFlow.goesOn();
    assert.ok((await loadIdentity(alice.path)).notAfter > firstEnd);
    assert.equal(count(alice, /"relay_lost"|"identity_not_reloaded"/), 0);
  });

  await t.step("a logout ends live flows, and what was the user's key proves nothing any more", async () => {
    await writeSecretFile(network.path("copy"), await Deno.readTextFile(alice.path));
    assert.deepEqual(await network.logout("alice"), { code: 0, out: `Removed ${alice.path}\n`, err: "" });
    await within(LIMIT_MS, () => aliceFlow.ended);
    await assert.rejects(alice.flow());
    const { code, err } = await network.api("copy", "GET", "whoami");
    assert.deepEqual([code, /401/.test(err)], [1, true], err);
  });
});

function person(name: string, groups: readonly string[]) {
  return { sub: `u-${name}`, preferred_username: name, groups };
}

/** A command that is asked again while the provider's token is the very one of a login in the same second. */
async function succeeds(
  command: () => Promise<{ readonly code: number; readonly err: string }>,
): Promise<void> {
  await eventually(async () => {
    const { code, err } = await command();
    if (code !== 0 && /used already/.test(err)) return false;
    assert.equal(code, 0, err);
    return true;
  });
}

function count({ agent }: LoggedInUser, pattern: RegExp): number {
  return agent.lines.filter((line) => pattern.test(line)).length;
}
