/**
 * Cost of judging a packet of a known flow: flat from 1 to 200 rules and from 1 to 250 clients. Each iteration judges
 * {@linkcode PACKETS} packets, each third of them an answer, of flows in random order; the first packets of flows, which
 * the rules judge, have a bench of their own.
 */

import { ipWords, parseIp, parsePrefix } from "../../../src/base/ip.ts";
import type { EgressRule } from "../../../src/core/egress/document.ts";
import type { EgressClient } from "../../../src/core/egress/egress_client.ts";
import { EgressEngine } from "../../../src/core/egress/engine.ts";
import type { EgressPacket } from "../../../src/core/egress/flow.ts";
import { compileEgress } from "../../../src/core/egress/snapshot.ts";

const PACKETS = 1_000;
/** The same for any number of clients, so that runs differ in nothing else. */
const FLOWS = 10_000;
const POOLS = [parsePrefix("10.100.0.0/16")!];
const NOW = 1_700_000_000_000;

/** The last rule is the one that matches. */
function rulesOf(count: number) {
  const rules = Array.from({ length: count }, (_, index): EgressRule => ({
    id: `rule-${index}`,
    type: "ip_cidr",
    action: "allow",
    destinations: [
      parsePrefix(index === count - 1 ? "198.51.0.0/16" : `172.16.${index}.0/24`)!,
      parsePrefix(index === count - 1 ? "2001:db8::/32" : `fd01:${index}::/32`)!,
    ],
    protocols: [6, 17],
    ports: [{ first: 1, last: 65_535 }],
    metadata: {},
  }));
  const document = {
    name: "",
    defaultAction: "drop",
    resolvers: null,
    clients: [{ client: "#all", rules }],
  } as const;
  return compileEgress(document, { trustDomain: "d", pools: POOLS })
    .rulesFor({ uri: "spiffe://d/agent/a", kind: "agent", name: "a", attributes: new Set() });
}

/** A packet of a flow of a client; `back` turns it round. */
function packetOf(
  client: number,
  flow: number,
  { version, back }: { version: 4 | 6; back: boolean },
): EgressPacket {
  const low = `${client >> 8}.${client & 255}`;
  const [from, to] = version === 4
    ? [`10.100.${low}`, `198.51.${flow & 255}.7`]
    : [`fd00:100::${low}`, `2001:db8::${flow}`];
  const source = ipWords(parseIp(from.includes(".") && version === 6 ? `fd00:100::${client + 1}` : from)!);
  const far = ipWords(parseIp(to)!);
  const [src, dst] = back ? [far, source] : [source, far];
  return {
    version,
    protocol: flow % 2 === 0 ? 6 : 17,
    totalLength: 1_200,
    ...{ src0: src[0], src1: src[1], src2: src[2], src3: src[3] },
    ...{ dst0: dst[0], dst1: dst[1], dst2: dst[2], dst3: dst[3] },
    srcPort: back ? 443 : 20_000 + flow,
    dstPort: back ? 20_000 + flow : 443,
    icmpType: 0,
    tcpFlags: 0x10,
    fragmentOffset: 0,
    moreFragments: false,
    fragmentId: 0,
  };
}

interface Step {
  readonly client: EgressClient;
  readonly packet: EgressPacket;
  readonly back: boolean;
}

function prepare(rules: number, clients: number, version: 4 | 6): Step[] {
  const engine = new EgressEngine({ capacityPerClient: FLOWS, capacity: 1 << 20, seed: 0x5eed });
  const compiled = rulesOf(rules);
  const flowsPerClient = FLOWS / clients;
  const judges = Array.from(
    { length: clients },
    (_, i) => engine.client({ identity: `${i}`, rules: compiled }),
  );
  const there = judges.map((client, i) =>
    Array.from({ length: flowsPerClient }, (_, flow) => {
      const packet = packetOf(i, flow, { version, back: false });
      if (client.outbound(packet, NOW).action !== "allow") throw new Error("The bench's flow is not allowed");
      return { client, packet, back: false };
    })
  );
  const back = judges.map((client, i) =>
    Array.from({ length: flowsPerClient }, (_, flow) => {
      const packet = packetOf(i, flow, { version, back: true });
      if (client.inbound(packet, NOW) === undefined) throw new Error("The bench's answer is not let in");
      return { client, packet, back: true };
    })
  );
  // A fixed pseudo-random order, so that runs can be compared.
  let random = 1;
  const next = (bound: number) => (random = Math.imul(random, 48_271) >>> 0) % bound;
  return Array.from(
    { length: PACKETS },
    (_, i) => (i % 3 === 2 ? back : there)[next(clients)]![next(flowsPerClient)]!,
  );
}

let now = NOW;

function pass(steps: readonly Step[]): void {
  now += 1;
  for (const { client, packet, back } of steps) {
    if (back) client.inbound(packet, now);
    else client.outbound(packet, now);
  }
}

for (const version of [4, 6] as const) {
  for (const clients of [1, 250]) {
    for (const rules of [1, 200]) {
      const steps = prepare(rules, clients, version);
      const name = `egress: ${PACKETS} IPv${version} packets, ${rules} rules, ${clients} clients`;
      Deno.bench(name, { group: `IPv${version} known flows` }, () => pass(steps));
    }
  }
}

for (const rules of [1, 200]) {
  const compiled = rulesOf(rules);
  const packets = Array.from({ length: 256 }, (_, i) => ({
    ...packetOf(1, 1, { version: 4, back: false }),
    srcPort: i,
  }));
  Deno.bench(`egress: first packets of 256 flows, ${rules} rules`, { group: "new flows" }, (b) => {
    const engine = new EgressEngine({ capacityPerClient: 4_096, capacity: 4_096 });
    const client = engine.client({ identity: "a", rules: compiled });
    b.start();
    for (const packet of packets) client.outbound(packet, NOW);
    b.end();
  });
}
