/**
 * Serves a flow that is asked for by message, on a stream whose caller is already admitted.
 */

import type { ByteChannel } from "../../base/channel.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";
import { encodeMessage } from "../../wire/control/framing.ts";
import { dialSchema } from "../shared/dial_messages.ts";
import { readFirstMessage } from "../shared/message_channel.ts";
import { prefixedChannel } from "../shared/prefixed_channel.ts";
import { serviceOfHost } from "../shared/service_host.ts";
import type { FlowRequest, FlowResult } from "./flow_broker.ts";

/** What serving a dial needs. */
export interface DialStreamOptions {
  readonly caller: SpiffeId;
  readonly open: (flow: FlowRequest) => Promise<FlowResult>;
  /** Keys of the connectors that call themselves so. */
  readonly keysOf: (instances: ReadonlySet<string>) => ReadonlySet<string>;
}

/** Waits for the dial, answers it and carries the flow until it ends. */
export async function serveDial(stream: ByteChannel, options: DialStreamOptions): Promise<void> {
  const { message, rest } = await readFirstMessage(stream, dialSchema);
  // The view is valid until the next read only, which comes after the answer.
  const first = rest.slice();
  const result = await options.open({
    caller: options.caller,
    service: serviceOfHost(message.service) ?? "",
    port: message.port,
    sealed: message.sealed,
    avoid: options.keysOf(new Set(message.avoid)),
  });
  if (!result.ok) {
    const { status, error, details } = result.refusal;
    await stream.write(encodeMessage({ status, error, reason: details }));
    return await stream.closeWrite();
  }
  const { id, instance } = result.link;
  try {
    await stream.write(encodeMessage({ status: 200, connector: id.uri, instance }));
  } catch (error) {
    result.cancel();
    throw error;
  }
  await result.join(prefixedChannel(stream, first));
}
