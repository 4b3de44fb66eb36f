/**
 * Writes what was decided on IP flows into the audit log: each flow's first packet, and its counters when it ends.
 */

import type { FlowEntry } from "../../../core/egress/flow.ts";
import type { AuditLog } from "../../../telemetry/audit.ts";

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6" };

/** Writes down the decision on a flow: allowed flows as connect, refused ones as deny. */
export function auditDecision(audit: AuditLog, who: string, flow: FlowEntry): void {
  audit.record({
    event: flow.action === "allow" ? "connect" : "deny",
    who,
    service: destinationOf(flow),
    outcome: flow.action,
    ...basis(flow),
  });
}

/** Writes down how much a flow carried; `now` in milliseconds since the epoch. */
export function auditClose(
  audit: AuditLog,
  who: string,
  { flow, now }: { readonly flow: FlowEntry; readonly now: number },
): void {
  audit.record({
    event: "close",
    who,
    service: destinationOf(flow),
    outcome: flow.action,
    ...basis(flow),
    packetsIn: flow.packetsOut,
    bytesIn: flow.bytesOut,
    packetsOut: flow.packetsIn,
    bytesOut: flow.bytesIn,
    durationMs: now - flow.opened,
  });
}

function basis({ rule, reason }: FlowEntry): { readonly reason: string; readonly rule?: string } {
  return rule === "" ? { reason } : { reason, rule };
}

/** `tcp/192.0.2.1:443`, with the name behind it where a rule matched that. */
function destinationOf({ version, protocol, port, destination, name }: FlowEntry): string {
  const host = version === 6 ? `[${destination}]` : destination;
  const place = port === 0 ? host : `${host}:${port}`;
  return `${PROTOCOL_NAMES[protocol] ?? `ip-${protocol}`}/${place}${name === "" ? "" : ` (${name})`}`;
}
