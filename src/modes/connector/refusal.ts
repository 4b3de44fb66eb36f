/**
 * How a connector says that an upstream cannot be had: to a sealed flow's agent by a reason, to the relay by a status.
 */

import { DeadlineError } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import { FlowRefusedError, type ResetReason } from "../../dataplane/errors.ts";
import { DialError } from "../../io/tcp/dial.ts";

/** What the agent is told of an upstream's error. */
export function upstreamRefusal(error: unknown): FlowRefusedError {
  if (error instanceof FlowRefusedError) return error;
  return new FlowRefusedError(upstreamReason(error), errorMessage(error), { cause: error });
}

/** What an error of dialling means. */
export function upstreamReason(error: unknown): ResetReason {
  if (error instanceof FlowRefusedError) return error.reason;
  // Only the limit on the opening as a whole ends a dial so.
  if (error instanceof DeadlineError) return "upstream-timeout";
  if (!(error instanceof DialError)) return "internal";
  switch (error.code) {
    case "ERR_UPSTREAM_REFUSED":
      return "upstream-refused";
    case "ERR_UPSTREAM_TIMEOUT":
      return "upstream-timeout";
    default:
      return "upstream-unreachable";
  }
}

/** The status for a flow that is not sealed. */
export function plainStatus(reason: ResetReason): number {
  if (reason === "denied") return 403;
  return reason === "upstream-timeout" ? 504 : 502;
}
