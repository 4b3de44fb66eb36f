/**
 * Sealed flows of bytes: TCP.
 */

import type { ByteChannel } from "../base/channel.ts";
import {
  type AnsweredFlow,
  answerFlow,
  type AnswerOptions,
  requestFlow,
  type RequestOptions,
} from "./flow_opening.ts";
import { SealedChannel } from "./sealed_channel.ts";

/** What {@linkcode acceptFlow} needs. */
export type AcceptFlowOptions = AnswerOptions<ByteChannel>;

/** An open flow at the connector: splice `channel` and `upstream`. */
export interface AcceptedFlow extends Omit<AnsweredFlow<ByteChannel, SealedChannel>, "flow"> {
  readonly channel: SealedChannel;
}

/** Agent side: opens a sealed flow; rejects with `FlowRefusedError` when the connector refuses it. */
export function openFlow(options: RequestOptions): Promise<SealedChannel> {
  return requestFlow(options, (parts) => new SealedChannel(parts));
}

/** Connector side: authenticates, authorizes and dials, as `answerFlow()` tells. */
export async function acceptFlow(options: AcceptFlowOptions): Promise<AcceptedFlow> {
  const { flow, ...accepted } = await answerFlow(options, (parts) => new SealedChannel(parts));
  return { ...accepted, channel: flow };
}
