/**
 * Short certificates in a network with a controller: everybody renews by itself in time, life after life, under running
 * flows and without losing a connection; not whoever was revoked. A controller that is away in between is waited for.
 */

import assert from "node:assert/strict";
import { type Identity, loadIdentity, updateIdentityFile } from "../../src/identity/identity_file.ts";
import { ControllerGround, type Enrolled } from "../support/controller_ground.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { LongFlow } from "../support/long_flow.ts";
import type { AgentNode } from "../support/network.ts";
import type { NetworkNode } from "../support/network_node.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { RelayCaller } from "../support/relay_caller.ts";
import { TcpGate } from "../support/tcp_gate.ts";

/** Seconds a certificate lives, and the share of it after which it is renewed at the latest. */
const LIFE = 12;
const RENEWED_BY = 2 / 3 + 1 / 20;

/** Lives that flows last. */
const LIVES = 3;

/** Seconds that a renewal may take on a busy machine. */
const SLACK = 2;

type RunningNode = NetworkNode & Enrolled;

Deno.test(`certificates of ${LIFE} s: flows and connections outlive ${LIVES} of them`, async (t) => {
  using gate: TcpGate = new TcpGate(() => control.controllers[0]!.port);
  await using control = await ControllerGround.create({
    config: { certificates: { node: `${LIFE}s` }, url: `https://127.0.0.1:${gate.port}` },
  });
  using upstream = new RecordingUpstream();
  await control.open(["web"]);
  const relay = await control.relay();
  const connector = await control.connector({ services: { web: upstream.url } });
  const agents: (AgentNode & Enrolled)[] = [];
  for (const carrier of ["quic", "tls"]) {
    agents.push(await control.agent({ name: `alice-${carrier}`, forwards: ["web"], config: { carrier } }));
  }
  const nodes: readonly RunningNode[] = [relay, connector, ...agents];
  const flows = await Promise.all(agents.map((agent) => LongFlow.open(agent.forward("web"))));
  using _closing = { [Symbol.dispose]: () => flows.forEach((flow) => flow[Symbol.dispose]()) };
  const began = Date.now();

  const mallory = await control.agent({ name: "mallory" });
  const lost = await control.enrol("agent", "lost");
  // Of a newer network than any other: nothing that relays pass on tells it of a controller that answers.
  await updateIdentityFile(lost.path, ({ network }) => ({
    network: {
      ...network!,
      rev: network!.rev + 1_000_000,
      controllers: [{ name: "controller-1", url: `https://127.0.0.1:${freePort()}` }],
    },
  }));
  const bob = await control.agent({ name: "lost", identity: lost, forwards: ["web"] });

  await t.step("everybody renews when two thirds of a life are over", async () => {
    const before = await identities(nodes);
    await untilRenewed(nodes, before);
    for (const flow of flows) await flow.goesOn();
  });

  await t.step("whoever was revoked renews no more, and its new certificate is worth nothing", async () => {
    await mallory.waitForLine(/"certificate_renewed"/);
    const stolen = await loadIdentity(mallory.path);
    assert.equal((await control.api("POST", `/identities/${mallory.id}/reset`)).status, 200);
    await using caller = new RelayCaller(relay, stolen.trust.roots[0]!);
    await eventually(async () => await answerTo(stolen, caller) === 401);
    await mallory.waitForLine(/"certificate_not_renewed".*ERR_ENROLMENT_REFUSED.*revoked/, {
      timeoutMs: LIFE * 1_000,
    });
    assert.equal((await loadIdentity(mallory.path)).certificatePem, stolen.certificatePem);
    await mallory.stop();
  });

  await t.step("who finds no controller until it is too late says so, and what to do", async () => {
    const [line] = await bob.waitForLine(/.*"certificate_expired".*/, { timeoutMs: LIFE * 1_000 });
    const { level, code, hint } = JSON.parse(line);
    assert.deepEqual([level, code], ["error", "ERR_CONTROLLER_UNREACHABLE"]);
    assert.match(hint, /ginnel enroll/);
    await bob.waitForLine(/"relay_lost"/);
    await assert.rejects(LongFlow.open(bob.forward("web")));
    await bob.stop();
  });

  await t.step(
    "a controller that is away when it is time is asked again, and no life has a gap",
    async () => {
      const failures = nodes.map((node) => count(node, /"certificate_not_renewed"/));
      const hit = new Set<RunningNode>();
      // Nodes are due at times of their own: each time the gate is shut until one of them has stood before it.
      while (hit.size < 2) {
        gate.shut();
        const index = await eventually(() => {
          const found = nodes.findIndex((node, index) =>
            count(node, /"certificate_not_renewed"/) > failures[index]!
          );
          return found >= 0 && { found };
        }, { timeout: LIFE * 1_000 });
        const node = nodes[index.found]!;
        const renewals = count(node, /"certificate_renewed"/);
        gate.open();
        await eventually(() => count(node, /"certificate_renewed"/) > renewals);
        for (const [index, node] of nodes.entries()) {
          failures[index] = count(
            node,
            /"certificate_not_renewed"/,
          );
        }
        hit.add(node);
        for (const flow of flows) await flow.goesOn();
      }
    },
  );

  await t.step(`after ${LIVES} lives flows and connections are those of the beginning`, async () => {
    await eventually(() => Date.now() > began + LIVES * LIFE * 1_000, { timeout: LIVES * LIFE * 1_000 });
    for (const flow of flows) await flow.finish();
    await eventually(() => upstream.connections.every(({ end }) => end === "ended"));
    assert.deepEqual(
      upstream.connections.map(({ bytes }) => bytes.length).toSorted(),
      flows.map(({ bytes }) => bytes).toSorted(),
    );
    for (const node of nodes) {
      const broken = /"(?:relay_lost|relay_unreachable|relay_renewal_refused|certificate_expired)"/;
      assert.equal(count(node, broken), 0, node.name);
      assert.ok(count(node, /"certificate_renewed"/) >= LIVES, node.name);
    }
    // The controller renews its own, and serves with it.
    assert.equal((await control.api("GET", "/whoami")).status, 200);
    for (const agent of agents) await (await LongFlow.open(agent.forward("web"))).finish();
  });
});

/** What the nodes' files hold. */
function identities(nodes: readonly RunningNode[]): Promise<readonly Identity[]> {
  return Promise.all(nodes.map(({ path }) => loadIdentity(path)));
}

/** Waits until each node has another certificate than before, which has to be in time. */
async function untilRenewed(nodes: readonly RunningNode[], before: readonly Identity[]): Promise<void> {
  await Promise.all(nodes.map(async ({ path, name }, index) => {
    const { notAfter, certificatePem } = before[index]!;
    await eventually(async () => (await loadIdentity(path)).certificatePem !== certificatePem, {
      timeout: LIFE * 1_000,
      interval: 50,
    });
    const left = (notAfter - Date.now()) / 1_000;
    assert.ok(
      left < LIFE / 3 && left > LIFE * (1 - RENEWED_BY) - SLACK,
      `${name} renewed ${left} s before the end`,
    );
  }));
}

async function answerTo(identity: Identity, caller: RelayCaller): Promise<number> {
  const connection = await caller.dial();
  return (await connection.view(await caller.proof(identity))).status;
}

/** Log lines so far that a pattern fits. */
function count({ lines }: RunningNode, pattern: RegExp): number {
  return lines.filter((line) => pattern.test(line)).length;
}
