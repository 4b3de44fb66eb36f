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
import { type DialStreamOptions, serveDial } from "./dial_stream.ts";
import type { Admission } from "./peers.ts";

/** What a page says first: who it is. */
const helloSchema = z.object({ type: z.literal("hello"), proof: z.string().max(8_192) });

/** What serving a page needs. */
export interface BrowserOptions extends Omit<DialStreamOptions, "caller"> {
  readonly admit: (token: string) => Promise<Admission>;
  readonly logger: Logger;
}

/** Serves one page until its session ends. */
export async function serveBrowser(request: ServerRequest, options: BrowserOptions): Promise<void> {
  const session = await request.connection.acceptWebTransport(request);
  let caller: SpiffeId | undefined;
  for await (const stream of session.incomingStreams()) {
    if (caller !== undefined) {
      serveDial(stream, { ...options, caller }).catch((error) => {
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
