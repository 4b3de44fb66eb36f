/**
 * Cost of a packet in the hub, policy and flows included, device and links free of cost: 256 packets per run, so that
 * 100 us is 0.4 us or 2.5 million packets per second. It must not grow with sessions or rules.
 */

import { parsePrefix, prefixRange } from "../../../src/base/ip.ts";
import type { EgressRule } from "../../../src/core/egress/document.ts";
import { EgressEngine } from "../../../src/core/egress/engine.ts";
import { compileEgress } from "../../../src/core/egress/snapshot.ts";
import { RouteSet } from "../../../src/core/route_set.ts";
import { TunnelHub } from "../../../src/dataplane/tunnel/hub.ts";
import type { PacketBatch } from "../../../src/dataplane/tunnel/packet_batch.ts";
import type { PacketDevice } from "../../../src/dataplane/tunnel/packet_device.ts";
import type { TunnelLink } from "../../../src/dataplane/tunnel/tunnel_link.ts";
import type { TunnelSession } from "../../../src/dataplane/tunnel/tunnel_session.ts";
import { ip, udp } from "../../dataplane/tunnel/packets.ts";

const PACKETS = 256;
const DATA = new Uint8Array(1_200 - 28);
const SERVER = "192.0.2.80";
const POOL = parsePrefix("10.100.0.0/22")!;
const ANYWHERE = RouteSet.from([{ range: prefixRange(parsePrefix("0.0.0.0/0")!), protocol: 0 }]);

const NONE: ReadonlySet<string> = new Set();

/** Hands out the same packets for ever, as one copy per read. */
class LoopDevice implements PacketDevice {
  readonly name = "loop0";
  reads = 0;
  #prepared: Uint8Array[] = [];
  #done: (() => void) | undefined;
  #wake: ((open: boolean) => void) | undefined;

  constructor(packets: Uint8Array[] = []) {
    this.#prepared = packets;
  }

  /** Lets the hub read once; resolves when it wants to read again. */
  once(packets: Uint8Array[]): Promise<void> {
    this.#prepared = packets;
    return new Promise((resolve) => {
      this.#done = resolve;
      this.#wake?.(true);
    });
  }

  read(batch: PacketBatch): number {
    batch.clear();
    for (const packet of this.#prepared) batch.add(packet);
    this.#prepared = [];
    if (batch.count === 0) this.#done?.();
    return batch.count;
  }

  readable(): Promise<boolean> {
    return new Promise((resolve) => this.#wake = resolve);
  }

  write(): number {
    return 0;
  }

  setMtu(): void {}

  close(): void {
    this.#wake?.(false);
  }
}

const FREE_LINK: TunnelLink = {
  mtu: 1_400,
  send: () => true,
  sendInOrder: () => true,
  writable: () => Promise.resolve(),
};

for (const rules of [1, 200]) {
  for (const sessions of [1, 250]) {
    const { device, peers, there, back } = prepare(sessions, rules);
    const label = `${sessions} ${sessions === 1 ? "session" : "sessions"}, ${rules} ACL ${
      rules === 1 ? "rule" : "rules"
    }`;
    Deno.bench(`hub: ${PACKETS} packets from peers, ${label}`, { group: "from peers" }, () => {
      for (let i = 0; i < PACKETS; i++) peers[i % sessions]!.receive(there[i]!);
    });
    Deno.bench(
      `hub: ${PACKETS} packets from the device, ${label}`,
      { group: "from the device" },
      async () => {
        await device.once(back);
      },
    );
  }
}

{
  const { hub, peers } = prepare(2, 1);
  const between = Array.from(
    { length: PACKETS },
    (_, i) => udp({ src: addressOf(0), dst: addressOf(1), srcPort: 1_024 + i, data: DATA }),
  );
  Deno.bench(`hub: ${PACKETS} packets from peer to peer`, { group: "from peers" }, () => {
    for (let i = 0; i < PACKETS; i++) peers[0]!.receive(between[i]!);
  });
  hub.tick();
}

function addressOf(session: number): string {
  return `10.100.${1 + (session >> 8)}.${session & 0xff}`;
}

function prepare(sessions: number, ruleCount: number) {
  const device = new LoopDevice();
  const engine = new EgressEngine({
    capacityPerClient: 4_096,
    capacity: 1 << 20,
    identityAt: (...address) => hub.identityAt(...address),
  });
  const hub: TunnelHub = new TunnelHub({
    device,
    engine,
    gateway4: ip("10.100.0.1"),
    gateway6: null,
    pools: [POOL],
    schedule: (run) => void setImmediate(run),
    now: Date.now,
    onDecision: (_session, flow) => {
      if (flow.action !== "allow") throw new Error(`A packet to ${flow.destination} was refused`);
    },
    onError: (error) => {
      throw error;
    },
  });
  const snapshot = compileEgress({
    name: "bench",
    defaultAction: "drop",
    resolvers: null,
    clients: [{ client: "#all", rules: rulesOf(ruleCount) }],
  }, { trustDomain: "bench.example", pools: [POOL] });
  const peers: TunnelSession[] = [];
  for (let i = 0; i < sessions; i++) {
    const name = `agent-${i}`;
    const identity = { uri: `spiffe://bench.example/agent/${name}`, kind: "agent", name, attributes: NONE };
    const client = engine.client({ identity: identity.uri, rules: snapshot.rulesFor(identity) });
    const addresses = [ip(addressOf(i))];
    peers.push(hub.attach({ identity, addresses, link: FREE_LINK, client, scope: ANYWHERE }));
  }
  const port = (i: number) => 1_024 + Math.floor(i / sessions);
  const there = Array.from(
    { length: PACKETS },
    (_, i) => udp({ src: addressOf(i % sessions), dst: SERVER, srcPort: port(i), data: DATA }),
  );
  const back = Array.from(
    { length: PACKETS },
    (_, i) =>
      udp({ src: SERVER, dst: addressOf(i % sessions), srcPort: 9_000, dstPort: port(i), data: DATA }),
  );
  for (let i = 0; i < PACKETS; i++) peers[i % sessions]!.receive(there[i]!);
  void hub.run();
  return { device, hub, peers, there, back };
}

/** The one that matches is the last. */
function rulesOf(count: number): EgressRule[] {
  const common = { type: "ip_cidr", action: "allow", protocols: null, ports: null, metadata: {} } as const;
  const others = Array.from({ length: count - 1 }, (_, i): EgressRule => ({
    ...common,
    id: `other-${i}`,
    destinations: [parsePrefix(`203.0.113.${i}/32`)!],
  }));
  return [
    ...others,
    { ...common, id: "server", destinations: [parsePrefix(`${SERVER}/32`)!] },
    { ...common, type: "identity", id: "peers", destinations: ["#all"] },
  ];
}
