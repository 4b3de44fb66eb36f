/** What a new policy revision takes away from those who are already connected. */

import type { DenyReason } from "./decision.ts";
import type { PolicySnapshot } from "./snapshot.ts";

/** A live flow as the policy sees it. */
export interface FlowRights {
  /** SPIFFE ID of who dialled. */
  readonly caller: string;
  readonly service: string;
  /** SPIFFE ID of the connector that serves the flow. */
  readonly connector: string;
}

/** A live flow that may go on no longer, and why. */
export interface RevokedFlow<F extends FlowRights> {
  readonly flow: F;
  /** Which end lost its right. */
  readonly side: "dial" | "bind";
  readonly reason: DenyReason;
}

/** Lists the flows that `snapshot` would not allow: the same question as at their start, asked again. */
export function revokedFlows<F extends FlowRights>(
  snapshot: PolicySnapshot,
  flows: Iterable<F>,
): RevokedFlow<F>[] {
  const revoked: RevokedFlow<F>[] = [];
  for (const flow of flows) {
    const dial = snapshot.mayDial(flow.caller, flow.service);
    const bind = snapshot.mayBind(flow.connector, flow.service);
    if (dial.verdict === "deny") revoked.push({ flow, side: "dial", reason: dial.reason });
    else if (bind.verdict === "deny") revoked.push({ flow, side: "bind", reason: bind.reason });
  }
  return revoked;
}
