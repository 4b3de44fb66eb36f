/** Packets and clients for tests of the egress rules: policies are written as YAML, packets as what differs. */

import assert from "node:assert/strict";
import { ipWords, parseIp, parsePrefix } from "../../src/base/ip.ts";
import { parseEgress } from "../../src/config/egress_file.ts";
import type { ClientRules } from "../../src/core/egress/client_rules.ts";
import type { EgressIdentity } from "../../src/core/egress/document.ts";
import { type EgressPacket, PROTOCOL } from "../../src/core/egress/flow.ts";
import { compileEgress, type EgressSnapshot } from "../../src/core/egress/snapshot.ts";

/** The pools of every policy that {@linkcode compileText} compiles. */
export const POOLS = ["10.100.0.0/24", "fd00:100::/64"].map((text) => parsePrefix(text)!);

/** The addresses that packets come from unless a test says otherwise. */
export const CLIENT4 = "10.100.0.10";
export const CLIENT6 = "fd00:100::a";

/** A packet in a few words. */
export interface PacketSpec {
  readonly from?: string;
  readonly to: string;
  readonly protocol?: keyof typeof PROTOCOL | number;
  readonly sport?: number;
  readonly port?: number;
  /** Identifier of an echo. */
  readonly id?: number;
  readonly icmpType?: number;
  readonly flags?: number;
  readonly length?: number;
  /** Fragment offset in bytes. */
  readonly offset?: number;
  readonly more?: boolean;
  readonly fragment?: number;
}

/** Builds what a packet view would say: TCP from port 40000 to port 443 where nothing else is said. */
export function packet(spec: PacketSpec): EgressPacket {
  const to = parseIp(spec.to)!;
  const from = parseIp(spec.from ?? (to.version === 4 ? CLIENT4 : CLIENT6))!;
  assert.equal(from.version, to.version);
  const [src0, src1, src2, src3] = ipWords(from);
  const [dst0, dst1, dst2, dst3] = ipWords(to);
  const name = spec.protocol ?? "TCP";
  const protocol = typeof name === "number" ? name : PROTOCOL[name];
  const later = (spec.offset ?? 0) > 0;
  const isIcmp = protocol === PROTOCOL.ICMP || protocol === PROTOCOL.ICMPV6;
  const hasPorts = !later && (protocol === PROTOCOL.TCP || protocol === PROTOCOL.UDP);
  const icmpType = isIcmp && !later ? spec.icmpType ?? (to.version === 4 ? 8 : 128) : 0;
  const isEcho = isIcmp && !later && [0, 8, 128, 129].includes(icmpType);
  return {
    version: to.version,
    protocol,
    totalLength: spec.length ?? 100,
    ...{ src0, src1, src2, src3, dst0, dst1, dst2, dst3 },
    srcPort: isEcho ? spec.id ?? 7 : hasPorts ? spec.sport ?? 40_000 : 0,
    dstPort: isEcho ? spec.id ?? 7 : hasPorts ? spec.port ?? 443 : 0,
    icmpType,
    tcpFlags: protocol === PROTOCOL.TCP && !later ? spec.flags ?? 0x10 : 0,
    fragmentOffset: spec.offset ?? 0,
    moreFragments: spec.more ?? false,
    fragmentId: spec.fragment ?? 0,
  };
}

/** The packet that a far end sends back. */
export function reply(spec: PacketSpec): EgressPacket {
  const there = packet(spec);
  return {
    ...there,
    ...{ src0: there.dst0, src1: there.dst1, src2: there.dst2, src3: there.dst3 },
    ...{ dst0: there.src0, dst1: there.src1, dst2: there.src2, dst3: there.src3 },
    srcPort: there.dstPort,
    dstPort: there.srcPort,
    icmpType: there.icmpType === 8 ? 0 : there.icmpType === 128 ? 129 : there.icmpType,
  };
}

/** Compiles the text of an egress file for the trust domain `d`. */
export function compileText(text: string): EgressSnapshot {
  return compileEgress(parseEgress([{ file: "egress.yaml", text }]), { trustDomain: "d", pools: POOLS });
}

/** Compiles the rules of agent/alice from YAML flow maps. */
export function rulesOf(...rules: string[]): ClientRules {
  const snapshot = compileText(`clients: {agent/alice: {rules: [${rules.join(", ")}]}}`);
  return snapshot.rulesFor(identity("agent/alice"))!;
}

/** An identity of the trust domain `d`, or of the one given. */
export function identity(
  path: string,
  { attributes = [], domain = "d" }: { readonly attributes?: readonly string[]; readonly domain?: string } =
    {},
): EgressIdentity {
  const [kind, name] = path.split("/");
  return { uri: `spiffe://${domain}/${path}`, kind: kind!, name: name!, attributes: new Set(attributes) };
}
