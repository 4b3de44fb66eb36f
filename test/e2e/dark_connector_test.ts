/**
 * A service host is dark: while its connector serves flows, nothing on it listens but files that are its owner's alone,
 * and the connector's one UDP socket answers nobody but its relays.
 */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { randomBytes } from "node:crypto";
import { Deployment, RELAY_PORT } from "../support/deployment.ts";
import { Network as Namespaces } from "../support/namespaces.ts";
import { Network } from "../support/network.ts";
import { type ProcessSocket, socketsOf } from "../support/process_sockets.ts";
import { runCommand } from "../support/processes.ts";
import { captureInitials } from "../support/quic_initials.ts";
import { needsNetworkNamespaces, needsTool, testNeeding } from "../support/require_tool.ts";
import { UdpSocket } from "../support/udp_socket.ts";

for (const carrier of ["quic", "tls", "auto"] as const) {
  Deno.test(`carrier ${carrier}: a connector in the middle of a flow has one UDP socket, and nothing listens`, async () => {
    await using site = await openSite(carrier);
    using flow = await site.openFlow();
    // Every socket is accounted for; one that is just being dialled stands in no table for a moment.
    const sockets = await eventually(() => {
      const found = socketsOf(site.connector);
      return found.every(({ kind }) => kind !== "unknown") && found;
    });
    assert.deepEqual(listeners(sockets), [`unix ${site.folder}/connector-1.sock`]);
    const { mode } = await Deno.stat(`${site.folder}/connector-1.sock`);
    assert.equal(mode! & 0o777, 0o600, "nobody else may ask it");
    assert.equal(sockets.filter(({ kind }) => kind === "udp").length, 1);
    await flow.echo("still there");
    // The same look at the relay does see what listens.
    const atRelay = socketsOf(site.relay);
    assert.ok(
      atRelay.some(({ kind, port, listens }) => kind === "tcp" && port === site.relayPort && listens),
    );
    assert.ok(atRelay.some(({ kind, port }) => kind === "udp" && port === site.relayPort));
  });
}

Deno.test("a connector without a control socket has no listener of any kind, and one that is asked for health a file", async () => {
  await using silent = await openSite("quic", { config: { control: null } });
  assert.deepEqual(listeners(socketsOf(silent.connector)), []);
  await using site = await openSite("quic", { health: true, config: { control: null } });
  assert.deepEqual(listeners(socketsOf(site.connector)), [`unix ${site.folder}/health`]);
});

Deno.test("the connector's UDP socket answers nothing to strangers, where a QUIC server would talk", async () => {
  await using site = await openSite("quic");
  using flow = await site.openFlow();
  const [udp] = socketsOf(site.connector).filter(({ kind }) => kind === "udp");
  const packets = await probes();
  for (const source of ["127.0.0.1", "127.0.0.2", "::1"]) {
    using stranger = new UdpSocket({ hostname: source });
    const hostname = source === "::1" ? "::1" : "127.0.0.1";
    for (const packet of packets) await stranger.send(packet, { hostname, port: udp!.port });
    // The connector's socket is a queue: what it answers to the relay now, it answers after any answer to us. The
    // relay's packets are still served, so the silence is not that of a broken socket.
    await flow.echo("served");
    assert.deepEqual(await stranger.received(), [], source);
  }
  // The first two at the relay bring a handshake and a version negotiation.
  for (const packet of packets.slice(0, 2)) {
    using stranger = new UdpSocket();
    await stranger.send(packet, { hostname: "127.0.0.1", port: site.relayPort });
    assert.ok((await stranger.receive()).length > 0);
  }
});

testNeeding(
  [needsNetworkNamespaces(), needsTool("ss")],
  "a full port scan of the service host finds nothing, and ss on it shows no listener",
  async () => {
    await using deployment = await Deployment.create({ services: [{ name: "web" }] });
    await using hosts = await Namespaces.create(["relay", "service", "scanner"]);
    const [relayHost, service, scanner] = ["relay", "service", "scanner"].map((name) => hosts.host(name));
    await deployment.startRelay({}, { wrap: (command) => relayHost!.command(command) });
    // The service itself: an HTTP server on a unix socket, as it would be beside the connector.
    await using _web = Deno.serve(
      { path: `${deployment.folder}/web`, onListen: () => {} },
      () => new Response(""),
    );
    const connector = await deployment.start("connector-1", {
      mode: "connector",
      identity: await deployment.issue("connector", "connector-1"),
      relays: [{ name: "relay-1", address: `${relayHost!.address}:${RELAY_PORT}` }],
      services: [{ name: "web", upstream: `unix:${deployment.folder}/web` }],
    }, { wrap: (command) => service!.command(command) });
    await connector.waitForLine(/"service_bound"/);

    const scan = (address: string) =>
      runCommand(scanner!.command([
        ...[Deno.execPath(), "run", "--quiet", "--no-check", "--allow-net"],
        new URL("../support/port_scan.ts", import.meta.url).pathname,
        address,
      ]));
    assert.equal(await scan(service!.address), "scanned 65535\n");
    assert.equal(await scan(relayHost!.address), `open ${RELAY_PORT}\nscanned 65535\n`);
    const ss = (await runCommand(service!.command([needsTool("ss").path, "-Hltnup"]))).trim().split("\n");
    assert.equal(ss.length, 1, ss.join("\n"));
    assert.match(ss[0]!, /^udp\s+UNCONN/, "the connector's own dialing socket");
  },
);

/**
 * What scanners and attackers send: a genuine Initial, one of an unknown version (asking for version
 * negotiation), a short header (asking for a stateless reset), and anything else.
 */
async function probes(): Promise<Uint8Array[]> {
  const [initial] = await captureInitials(1);
  const otherVersion = initial!.slice();
  otherVersion.set([0x1a, 0x2a, 0x3a, 0x4a], 1);
  const handshake = initial!.slice();
  handshake[0] = 0xe0 | handshake[0]! & 0x0f;
  const version2 = initial!.slice();
  version2.set([0x6b, 0x33, 0x43, 0xcf], 1);
  const shortHeader = (length: number) => {
    const packet = new Uint8Array(randomBytes(length));
    packet[0] = 0x40 | packet[0]! & 0x3f;
    return packet;
  };
  return [
    initial!,
    otherVersion,
    shortHeader(1_200),
    version2,
    handshake,
    initial!.subarray(0, 600),
    ...[21, 22, 41, 43, 64, 1_400].map(shortHeader),
    new Uint8Array(),
    new Uint8Array(1),
    new Uint8Array(randomBytes(1_200)),
    new Uint8Array(60_000).fill(0xff),
    new TextEncoder().encode("version.bind"),
  ];
}

/** Relay and connector as processes, an agent in between, an echo behind. */
interface Site extends AsyncDisposable {
  /** Process ids. */
  readonly relay: number;
  readonly connector: number;
  readonly folder: string;
  readonly relayPort: number;
  openFlow(): Promise<Flow>;
}

/** An open flow to the echo service. */
interface Flow extends Disposable {
  echo(text: string): Promise<void>;
}

/** What takes connections from others, by kind and path or port. */
function listeners(sockets: readonly ProcessSocket[]): string[] {
  return sockets.filter(({ listens }) => listens).map(({ kind, port, path = port }) => `${kind} ${path}`);
}

async function openSite(
  carrier: "quic" | "tls" | "auto",
  { health = false, config = {} }: {
    readonly health?: boolean;
    readonly config?: Readonly<Record<string, unknown>>;
  } = {},
): Promise<Site> {
  const stack = new AsyncDisposableStack();
  const network = stack.use(await Network.create());
  const upstream = stack.use(Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  void (async () => {
    for await (const connection of upstream) connection.readable.pipeTo(connection.writable).catch(() => {});
  })();
  const relay = await network.relay({ separate: true });
  const connector = await network.connector({
    separate: true,
    relays: [relay],
    services: { web: `tcp://127.0.0.1:${upstream.addr.port}` },
    config: { carrier, ...(health ? { health: `unix:${network.folder}/health` } : {}), ...config },
  });
  const agent = await network.agent({ relays: [relay], forwards: ["web"], config: { carrier } });
  return {
    relay: relay.process!.pid,
    connector: connector.process!.pid,
    folder: network.folder,
    relayPort: relay.port,
    openFlow: async () => {
      const client = await Deno.connect({ hostname: "127.0.0.1", port: agent.forward("web") });
      const flow: Flow = { echo: (text) => echo(client, text), [Symbol.dispose]: () => client.close() };
      await flow.echo("hello");
      return flow;
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

async function echo(client: Deno.Conn, text: string): Promise<void> {
  const sent = new TextEncoder().encode(text);
  await client.write(sent);
  const received = new Uint8Array(sent.length);
  for (let filled = 0; filled < received.length;) {
    const count = await client.read(received.subarray(filled));
    assert.ok(count !== null, "the flow ended");
    filled += count;
  }
  assert.deepEqual(received, sent);
}
