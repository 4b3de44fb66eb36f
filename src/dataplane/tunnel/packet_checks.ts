/**
 * Judgements on packets that both ends of a tunnel make, from their views alone.
 */

import { type PacketView, PROTOCOL_ICMP, PROTOCOL_ICMPV6 } from "../../wire/packet/packet_view.ts";

/** Informational messages of ICMPv6 start here; errors are below (RFC 4443 §2.1). Redirects are worse than errors. */
const ICMPV6_INFORMATIONAL = 128;
const ICMPV6_REDIRECT = 137;

/** Types of ICMP errors (RFC 792). */
const UNREACHABLE = 3;
const REDIRECT = 5;
const TIME_EXCEEDED = 11;
const PARAMETER_PROBLEM = 12;

/**
 * Tells whether the packet is an ICMP or ICMPv6 error, redirects and source quenches among them: it belongs to the flow
 * of the packet that it quotes, never to a flow of its own.
 */
export function isIcmpError(view: PacketView): boolean {
  if (view.fragmentOffset !== 0) return false;
  const { icmpType: type } = view;
  if (view.version === 6) {
    return view.protocol === PROTOCOL_ICMPV6 && (type < ICMPV6_INFORMATIONAL || type === ICMPV6_REDIRECT);
  }
  if (view.protocol !== PROTOCOL_ICMP) return false;
  return type >= UNREACHABLE && type <= REDIRECT || type === TIME_EXCEEDED || type === PARAMETER_PROBLEM;
}

/** Tells whether the packet `inner` came from where the packet `outer` goes, as an ICMP error and what it quotes do. Of one version. */
export function isAnswerTo(outer: PacketView, inner: PacketView): boolean {
  return inner.src3 === outer.dst3 && inner.src2 === outer.dst2 && inner.src1 === outer.dst1 &&
    inner.src0 === outer.dst0;
}
