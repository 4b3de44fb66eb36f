/** Several relays on one controller: nodes find them by their network, use those that come, and leave those that go. */

import assert from "node:assert/strict";
import { withDeadline } from "../../src/base/async.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { controllerClient } from "../../src/modes/enrol/controller_client.ts";
import { ControllerGround, type Enrolled } from "../support/controller_ground.ts";
import { eventually } from "../support/eventually.ts";
import { askName, connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import type { RelayNode } from "../support/network.ts";
import { within } from "../support/within.ts";

/** Milliseconds in which a flow begins although its relay has just died. */
const FAIL_OVER_MS = 2_000;

Deno.test("nodes use the relays that their network has: all of them, new ones, and no disabled one", async (t) => {
  await using control = await ControllerGround.create();
  using upstream = new NamedUpstream("web");
  await control.open(["web"]);
  const relays: (RelayNode & Enrolled)[] = [];
  for (let n = 1; n <= 3; n++) relays.push(await control.relay({ name: `relay-${n}`, separate: true }));
  const [first, second, third] = relays as [RelayNode & Enrolled, RelayNode & Enrolled, RelayNode & Enrolled];
  // Returns once it is bound at all of them.
  const connector = await control.connector({ services: { web: upstream.upstream }, separate: true });
  const agent = await control.agent({ forwards: ["web"] });

  await t.step("an agent whose config names no relay is at all of them", async () => {
    const config = JSON.parse(await Deno.readTextFile(`${control.folder}/alice.config.json`));
    assert.equal(config.relays, undefined);
    await eventually(async () => {
      const { json } = await control.api("GET", "/connectors");
      const [{ relays: bound, services }] =
        (json as { data: [{ relays: string[]; services: string[] }] }).data;
      return bound.length === relays.length && services[0] === "web";
    });
    assert.equal(await askName(agent.forward("web")), "web");
    assert.equal((await connects(first)).length, 1);
  });

  await t.step("its relay is killed: what runs there ends, and the next flow begins within 2 s", async () => {
    // A relay that this machine holds up for a moment loses a flow to the next one.
    const conn = await eventually(async () => {
      const seen = (await connects(first)).length;
      const { conn } = await connectNamed(agent.forward("web"));
      if ((await connects(first)).length > seen) return conn;
      conn.close();
    });
    const [before, flows] = [upstream.accepted, (await connects(first)).length];
    first.process!.signal("SIGKILL");
    for (let n = 0; n < 5; n++) await inTime(agent, second, third);
    assert.equal(upstream.accepted, before + 5);
    await assert.rejects(
      withDeadline(5_000, () => conn.read(new Uint8Array(1))),
      Deno.errors.ConnectionReset,
    );
    conn.close();
    assert.equal((await connects(first)).length, flows);
  });

  const fourth = await control.relay({ name: "relay-4", separate: true });
  await t.step("a relay that is made is used by nodes that run already", async () => {
    await agent.waitForLine(/"relay_connected".*"relay":"relay-4"/);
    await connector.waitForLine(/"service_bound".*"relay":"relay-4"/);
  });

  await t.step("a relay that is disabled is left, and hears of nothing any more", async () => {
    assert.equal(await askAsRelay(second), 204);
    assert.equal((await control.api("POST", `/identities/${second.id}/disable`)).status, 200);
    await agent.waitForLine(/"relay_unlisted".*"relay":"relay-2"/);
    await connector.waitForLine(/"relay_unlisted".*"relay":"relay-2"/);
    await second.waitForLine(/"controller_lost"/);
    assert.equal(await askAsRelay(second), 401);
    const { status, degraded } = await (await fetch(`${second.health}/ready`)).json();
    assert.equal(status, "degraded");
    assert.match(degraded[0], /no controller reached/);
  });

  await t.step("the new relay carries what the others cannot, and the disabled one nothing", async () => {
    const unused = (await connects(second)).length;
    third.process!.signal("SIGKILL");
    for (let n = 0; n < 3; n++) await inTime(agent, fourth);
    await eventually(async () => (await connects(fourth)).length >= 3);
    assert.equal((await connects(second)).length, unused);
  });

  await t.step("nodes remember it: started again, they go to the relays that there are now", async () => {
    const { network } = await eventually(async () => {
      const identity = await loadIdentity(agent.path);
      return identity.network!.relays.some(({ name }) => name === "relay-4") && identity;
    });
    assert.deepEqual(network!.relays.map(({ name }) => name).sort(), ["relay-1", "relay-3", "relay-4"]);
    await agent.stop();
    const { node } = await control.startAgain("alice");
    await node.waitForLine(/"relay_connected".*"relay":"relay-4"/);
    assert.ok(node.lines.every((line) => !line.includes('"relay":"relay-2"')));
  });

  async function inTime(from: typeof agent, ...by: readonly RelayNode[]): Promise<void> {
    const processes = [connector, ...by].map((node) => node.process!.pid);
    assert.equal(await within(FAIL_OVER_MS, () => askName(from.forward("web")), { processes }), "web");
  }
});

/** The flows that a relay has joined. */
async function connects(relay: RelayNode) {
  return (await relay.audit()).filter(({ event }) => event === "connect");
}

/** What the controller answers to something that only relays may ask. */
async function askAsRelay({ path }: Enrolled): Promise<number> {
  const identity = await loadIdentity(path);
  using http = controllerClient(() => identity);
  const request = { method: "POST", path: "/sync/v1/addresses/touch", json: { identities: [] } } as const;
  const answer = await http.request(request);
  return answer.status;
}
