/**
 * A local port that leads to one service.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { splice } from "../../dataplane/splice.ts";
import { flowFailure, type FlowTarget, type LocalClientContext } from "./local_flow.ts";

/**
 * Carries one client of a port forward. Where there is no flow the client sees a reset, the nearest thing to the
 * refused connection it would get from the service itself. Never rejects.
 */
export async function handleForward(
  client: ByteChannel,
  target: FlowTarget,
  context: Pick<LocalClientContext, "connect" | "logger" | "signal">,
): Promise<void> {
  const { connect, logger, signal } = context;
  try {
    const flow = await connect(target, { signal });
    await splice(client, flow, { signal });
  } catch (error) {
    logger.debug("forward_refused", { service: target.service, ...flowFailure(error) });
    client.abort(error);
  }
}
