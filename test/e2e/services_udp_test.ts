/**
 * Flows of datagrams from an agent to an upstream: over a relay and a connector in processes of their own.
 */

import assert from "node:assert/strict";
import { withDeadline } from "../../src/base/async.ts";
import type { DatagramFlow } from "../../src/dataplane/datagram/datagram_flow.ts";
import { FlowRefusedError } from "../../src/dataplane/errors.ts";
import { DialNode } from "../support/dial_node.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { type ConnectorNode, Network, type RelayNode } from "../support/network.ts";
import { UdpEcho } from "../support/udp_echo.ts";
import { within } from "../support/within.ts";

const NEVER = { signal: new AbortController().signal };
const ECHO = { service: "echo", protocol: "udp", port: 7 } as const;

Deno.test("UDP payloads of every size cross both ways, sealed; the relay's audit says how many", async () => {
  await using site = await openSite();
  const { flow, got } = await dial(site.agent);
  assert.ok(flow.maxPayload >= 1_100, `${flow.maxPayload}`);
  const sizes = [0, 1, 1_100, 1_200, 9_000, 65_000];
  for (const size of sizes) {
    const sent = new Uint8Array(size).map((_, i) => i * 7 + size);
    assert.ok(flow.send(sent, 0, size));
    await eventually(() => got.length === 1);
    assert.deepEqual(got.pop(), sent);
  }
  flow.close();
  const close = await eventually(async () =>
    (await site.relay.audit()).find(({ event }) => event === "close")
  );
  assert.equal(close.service, "echo");
  assert.equal(close.outcome, "closed");
  assert.ok(close.packetsIn! >= 3 && close.packetsIn! <= 4, `${close.packetsIn}`);
  assert.equal(close.packetsOut, close.packetsIn);
  assert.ok(close.bytesIn! > 75_000 && close.bytesOut! > 75_000, "those on the stream count too");
});

Deno.test("two flows of one service are two sockets at the upstream, and mix nothing", async () => {
  await using site = await openSite();
  const flows = await Promise.all([1, 2, 3].map(() => dial(site.agent)));
  for (const [i, { flow }] of flows.entries()) flow.send(Uint8Array.of(i), 0, 1);
  await eventually(() => flows.every(({ got }) => got.length === 1));
  assert.deepEqual(flows.map(({ got }) => got[0]![0]), [0, 1, 2]);
  assert.equal(new Set(site.echo.from.map(({ port }) => port)).size, 3);
  for (const { flow } of flows) flow.close();
});

Deno.test("over TLS, which has no datagrams, payloads cross as well", async () => {
  await using site = await openSite({ carrier: "tls" });
  const { flow, got } = await dial(site.agent);
  for (let i = 0; i < 20; i++) flow.send(new Uint8Array(1_000).fill(i), 0, 1_000);
  await eventually(() => got.length === 20);
  got.forEach((payload, i) => assert.ok(payload.length === 1_000 && payload.every((byte) => byte === i)));
  flow.close();
});

Deno.test("a closed UDP port ends the flow, and the agent learns why", async () => {
  await using site = await openSite({ upstreamPort: freePort() });
  const { flow } = await dial(site.agent);
  flow.send(Uint8Array.of(1), 0, 1);
  const error = await ended(flow);
  assert.ok(error instanceof FlowRefusedError, String(error));
  assert.equal(error.reason, "upstream-refused");
});

Deno.test("ping: the connector answers echo messages as they are, and only while it is there", async () => {
  await using site = await openSite();
  const flow = await site.agent.dialer.connectDatagrams({ service: "echo", protocol: "icmp" }, NEVER);
  const got: string[] = [];
  flow.receive((payload) => void got.push(payload.join()));
  flow.send(Uint8Array.of(1, 2, 3), 0, 3);
  flow.send(Uint8Array.of(0, 9, 0, 1, 42), 0, 5);
  await eventually(() => got.length === 1);
  assert.deepEqual(got, ["0,9,0,1,42"]);
  assert.equal(site.echo.from.length, 0, "the upstream hears nothing of it");
  await site.connector.stop();
  await ended(flow);
});

Deno.test("a flow ends within a second when its right is taken away", async () => {
  await using site = await openSite();
  const { flow, got } = await dial(site.agent);
  flow.send(Uint8Array.of(1), 0, 1);
  await eventually(() => got.length === 1);
  await site.network.writePolicy(policyOf([]));
  const processes = [site.relay.process!.pid, site.connector.process!.pid];
  await within(1_000, () => ended(flow), { processes });
  const close = await eventually(async () =>
    (await site.relay.audit()).find(({ event }) => event === "close")
  );
  assert.equal(close.service, "echo");
  await assert.rejects(site.agent.dialer.connectDatagrams(ECHO, NEVER), { code: "ERR_FLOW_UNAVAILABLE" });
});

Deno.test("an idle flow ends cleanly at both ends", async () => {
  await using site = await openSite({ idleTimeout: "5s" });
  const { flow } = await dial(site.agent);
  const error = await withDeadline(15_000, () => flow.closed);
  assert.equal((error as { code?: string } | undefined)?.code, "ERR_FLOW_IDLE");
  const close = await eventually(async () =>
    (await site.relay.audit()).find(({ event }) => event === "close")
  );
  assert.equal(close.outcome, "closed");
});

interface SiteOptions {
  readonly carrier?: "quic" | "tls";
  readonly upstreamPort?: number;
  readonly idleTimeout?: string;
}

interface Site extends AsyncDisposable {
  readonly network: Network;
  readonly relay: RelayNode;
  readonly connector: ConnectorNode;
  readonly agent: DialNode;
  readonly echo: UdpEcho;
}

async function openSite(options: SiteOptions = {}): Promise<Site> {
  const { carrier = "quic", upstreamPort, idleTimeout } = options;
  await using stack = new AsyncDisposableStack();
  const echo = stack.use(UdpEcho.start());
  const network = stack.use(await Network.create({ policy: policyOf(["#all"], idleTimeout) }));
  const relay = await network.relay({ separate: true });
  const connector = await network.connector({
    services: { echo: `udp://127.0.0.1:${upstreamPort ?? echo.port}` },
    relays: [relay],
    separate: true,
  });
  const agent = stack.use(await DialNode.open(network, { relays: [relay], carrier }));
  const undo = stack.move();
  return { network, relay, connector, agent, echo, [Symbol.asyncDispose]: () => undo.disposeAsync() };
}

function policyOf(dialers: readonly string[], idleTimeout?: string): unknown {
  const bind = { type: "Bind", semantic: "AnyOf", serviceRoles: ["#all"], identityRoles: ["#all"] };
  const dial = { ...bind, type: "Dial", identityRoles: dialers };
  return {
    services: [{ name: "echo", ...(idleTimeout === undefined ? {} : { idleTimeout }) }],
    servicePolicies: [
      { name: "binds", ...bind },
      ...(dialers.length > 0 ? [{ name: "dials", ...dial }] : []),
    ],
  };
}

async function dial(agent: DialNode): Promise<{ readonly flow: DatagramFlow; readonly got: Uint8Array[] }> {
  const flow = await agent.dialer.connectDatagrams(ECHO, NEVER);
  const got: Uint8Array[] = [];
  flow.receive((payload) => void got.push(payload.slice()));
  return { flow, got };
}

function ended(flow: DatagramFlow): Promise<Error | undefined> {
  return withDeadline(10_000, () => flow.closed);
}
