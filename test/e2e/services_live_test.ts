/**
 * Services come and go on a user's machine as administrators change the network, within a second of the API's answer
 * and without a restart of anything; what is cut is cut while it is in use.
 */

import assert from "node:assert/strict";
import type { AgentStatus } from "../../src/modes/agent/agent_status.ts";
import { PROGRAM } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { UPSTREAM_PORTS } from "../support/service_upstreams.ts";
import { startTicks } from "../support/tunnel_traffic.ts";
import { within } from "../support/within.ts";

const NEEDS = [needsRoot(), needsTun(), needsTool("curl")];

/** Milliseconds from the API's answer until it is so. */
const LIMIT = 1_000;

testNeeding(NEEDS, "services appear, change and vanish within a second, with the flows in use", async (t) => {
  await using ground = await ServiceGround.create();
  const upstreams = ground.spawn("conn1", script("service_upstreams.ts"));
  await upstreams.waitForLine(/^ready$/);
  const dial = await ground.allow("Dial");
  await ground.allow("Bind");
  const steady = await ground.service({ name: "steady" });
  const upstream = `tcp://127.0.0.1:${UPSTREAM_PORTS.web}`;
  const echo = `127.0.0.1:${UPSTREAM_PORTS.echo}`;
  const config = await ground.make("/configs", {
    name: "echo",
    type: "host.v1",
    data: {
      ...{ forwardProtocol: true, allowedProtocols: ["tcp", "udp"] },
      ...{ address: "127.0.0.1", port: UPSTREAM_PORTS.echo },
    },
  });
  const connector = await ground.startConnector("conn1", {
    services: [{ name: "steady", upstream }],
    hosting: { allow: [echo] },
  });
  let agent: ManagedProcess = await ground.startAgent("agent1");
  const processes = () => [agent.pid, connector.pid, ground.controller.process.pid];
  const soon = (probe: () => Promise<unknown>) =>
    within(LIMIT, () => eventually(probe, { timeout: 20_000 }), { processes: processes() });
  const addressOf = async (name: string) =>
    (await ground.run("agent1", ["getent", "ahostsv4", name])).split(" ")[0]!;
  const isGone = (name: string) => addressOf(name).then(() => false, () => true);
  const web = (port: number) => {
    const url = `http://steady.ginnel.internal:${port}/get`;
    return ground.run("agent1", ["curl", "-sSf", "--max-time", "5", "-o", "/dev/null", url]);
  };
  const talk = (to = "late.ginnel.internal") =>
    ground.run("agent1", ["bash", "-c", TALK, to, `${UPSTREAM_PORTS.echo}`]);
  const makeLate = async () => (await ground.make("/services", { name: "late", configs: [config.id] })).id;
  await eventually(() => web(80));

  let late = "";
  await t.step("a new service has its name, and can be used", async () => {
    late = await makeLate();
    await soon(talk);
    assert.ok((await status(ground)).services.some(({ name }) => name === "late"));
  });

  await t.step("a service that is removed is gone, with its flows of TCP and UDP", async () => {
    const flows = await startFlows(ground);
    const address = await addressOf("late.ginnel.internal");
    await ground.remove(`/services/${late}`);
    await soon(async () => flows.every(hasBroken) && await isGone("late.ginnel.internal"));
    await assert.rejects(talk(address), /No route/);
    assert.ok((await status(ground)).services.every(({ name }) => name !== "late"));
    await web(80);
  });

  await t.step(
    "so is everything when the policy that allowed it is removed, and back when it is there",
    async () => {
      await makeLate();
      await soon(talk);
      const flows = await startFlows(ground);
      await ground.remove(`/service-policies/${dial}`);
      await soon(async () =>
        flows.every(hasBroken) && await isGone("late.ginnel.internal") &&
        await isGone("steady.ginnel.internal")
      );
      assert.deepEqual((await status(ground)).services, []);
      await ground.allow("Dial");
      await soon(() => Promise.all([talk(), web(80)]));
    },
  );

  await t.step("ports follow the service's config", async () => {
    const range = await ground.make("/configs", {
      name: "ports",
      type: "intercept.v1",
      data: ports(80, 90),
    });
    await ground.edit(`/services/${steady}`, { configs: [range.id] });
    await soon(() => web(79).then(() => false, () => true));
    await web(90);
    await ground.edit(`/configs/${range.id}`, { data: ports(79, 85) });
    await soon(() => web(79));
    await assert.rejects(web(90), /Failed to connect/);
  });

  await t.step("addresses stay over restarts of the agent and of the relay", async () => {
    const names = ["steady.ginnel.internal", "late.ginnel.internal", "intranet.corp.example"];
    const look = () => Promise.all(names.map(addressOf));
    const before = await look();
    await agent.stop({ signal: "SIGKILL" });
    agent = await ground.startAgent("agent1");
    assert.deepEqual(await eventually(look), before);
    await ground.controller.kill();
    await ground.controller.start();
    await eventually(() => Promise.all([talk(), web(79)]), { timeout: 20_000 });
    assert.deepEqual(await look(), before);
  });
});

/** Says something to HOST PORT over TCP and over UDP, and fails unless it comes back. */
const TALK = `for t in tcp udp; do
  exec 3<>"/dev/$t/$0/$1" && printf x >&3 && read -r -n 1 -t 3 -u 3 || exit 1
  exec 3>&-
done`;

/** One datagram there and back after the other, from one socket, until the program is told that there is no way. */
const DATAGRAMS = `exec 3<>"/dev/udp/$0/$1"
while printf x >&3; do
  read -r -n 1 -t 0.2 -u 3
  case $? in 0) echo tick; sleep 0.02 ;; 1) break ;; esac
done
echo broken`;

/** Starts a flow of each kind at the service `late`, each in use all the time. */
async function startFlows(ground: ServiceGround): Promise<readonly ManagedProcess[]> {
  const to = "late.ginnel.internal";
  const datagrams = ground.spawn("agent1", ["bash", "-c", DATAGRAMS, to, `${UPSTREAM_PORTS.echo}`]);
  await datagrams.waitForLine(/^tick$/);
  return [await startTicks(ground.hosts, { from: "agent1", to }), datagrams];
}

function hasBroken({ lines }: ManagedProcess): boolean {
  return lines.some((line) => line.startsWith("broken"));
}

function ports(low: number, high: number): object {
  const addresses = ["steady.ginnel.internal", "intranet.corp.example"];
  return { addresses, portRanges: [{ low, high }], protocols: ["tcp"] };
}

async function status(ground: ServiceGround): Promise<AgentStatus> {
  const config = `${ground.folder}/agent-1.config.json`;
  return JSON.parse(await ground.run("agent1", [...PROGRAM, "status", "--json", "--config", config]));
}

function script(name: string, args: readonly string[] = []): string[] {
  const path = new URL(`../support/${name}`, import.meta.url).pathname;
  return [Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", path, ...args];
}
