/**
 * A web page's session (WebTransport): its first stream brings the proof, each later one asks for a flow to a
 * service that is open to clients without end-to-end sessions.
 */

import { z } from "zod";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ServerRequest } from "../../dataplane/carrier.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";
import { encodeMessage } from "../../wire/control/framing.ts";
import { readFirstMessage } from "../shared/message_channel.ts";
import { prefixedChannel } from "../shared/prefixed_channel.ts";
import { serviceOfHost } from "../shared/service_host.ts";
import type { FlowRequest, FlowResult } from "./flow_broker.ts";
import type { Admission } from "./peers.ts";

/** What a page says first: who it is. */
const helloSchema = z.object({ type: z.literal("hello"), proof: z.string().max(8_192) });

/** What a page says on each further stream. */
const dialSchema = z.object({
  type: z.literal("dial"),
  service: z.string().max(253),
  port: z.int().min(1).max(65_535).default(443),
});

/** What serving a page needs. */
export interface BrowserOptions {
  readonly admit: (token: string) => Promise<Admission>;
  readonly open: (flow: FlowRequest) => Promise<FlowResult>;
  readonly logger: Logger;
}

/** Serves one page until its session ends. */
export async function serveBrowser(request: ServerRequest, options: BrowserOptions): Promise<void> {
  const session = await request.connection.acceptWebTransport(request);
  let caller: SpiffeId | undefined;
  for await (const stream of session.incomingStreams()) {
    if (caller !== undefined) {
      serveDial(stream, caller, options).catch((error) => {
        options.logger.debug("browser_flow_failed", { detail: errorMessage(error) });
        stream.abort(error);
      });
      continue;
    }
    caller = await admitPage(stream, options);
    if (caller === undefined) return await session.close(401, "proof of identity refused");
  }
}

async function admitPage(stream: ByteChannel, options: BrowserOptions): Promise<SpiffeId | undefined> {
  try {
    const { message } = await readFirstMessage(stream, helloSchema);
    const admission = await options.admit(message.proof);
    if (admission.verdict === "deny") return undefined;
    await stream.write(encodeMessage({ status: 200 }));
    return admission.peer.id;
  } catch (error) {
    options.logger.debug("browser_hello_failed", { detail: errorMessage(error) });
    return undefined;
  }
}

async function serveDial(stream: ByteChannel, caller: SpiffeId, options: BrowserOptions): Promise<void> {
  const { message, rest } = await readFirstMessage(stream, dialSchema);
  const result = await options.open({
    caller,
    service: serviceOfHost(message.service) ?? "",
    port: message.port,
    sealed: false,
    avoid: new Set(),
  });
  if (!result.ok) {
    await stream.write(encodeMessage({ status: result.refusal.status, reason: result.refusal.details }));
    return await stream.closeWrite();
  }
  const first = rest.slice();
  try {
    await stream.write(encodeMessage({ status: 200 }));
  } catch (error) {
    result.cancel();
    throw error;
  }
  await result.join(prefixedChannel(stream, first));
}
