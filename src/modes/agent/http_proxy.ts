/**
 * The HTTP front end: CONNECT to services by name, and plain `http://SERVICE/` requests in absolute form, one to
 * a connection. Refusals carry the status, one line of plain text and `Proxy-Status` (RFC 9209).
 */

import type { HostPort } from "../../base/address.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorCode, errorMessage, ProtocolError } from "../../base/errors.ts";
import { HttpRequestBody } from "../../wire/http_body.ts";
import {
  decodeRequestHead,
  encodeForwardedHead,
  encodeProxyResponse,
  readProxyTarget,
  TUNNEL_ESTABLISHED,
} from "../../wire/http_connect.ts";
import { encodeProxyStatus } from "../../wire/proxy_status.ts";
import { prefixedChannel } from "../shared/prefixed_channel.ts";
import { ClientPrelude } from "./client_prelude.ts";
import { carryRequest } from "./http_request_flow.ts";
import { answerAndEnd, carryFlow } from "./local_client.ts";
import { type FlowFailure, flowFailure, type LocalClientContext } from "./local_flow.ts";

/** The name under which the agent speaks in `Proxy-Status`. */
const PROXY_NAME = "ginnel-agent";

/** Serves one client of the HTTP proxy until its flow ends. Never rejects. */
export async function handleHttpProxy(client: ByteChannel, context: LocalClientContext): Promise<void> {
  const prelude = new ClientPrelude(client, context.handshakeTimeout);
  try {
    const wish = await readWish(client, prelude);
    if (wish === undefined) return;
    const first = prelude.finish();
    const flow = await openFlow(client, wish.address, context);
    if (flow === undefined) return;
    const { signal } = context;
    if (wish.request === undefined) {
      await carryFlow(client, flow, { answer: TUNNEL_ESTABLISHED, first, signal });
    } else {
      await carryRequest(prefixedChannel(client, first), flow, { ...wish.request, signal });
    }
  } catch (error) {
    context.logger.debug("http_client_failed", { code: errorCode(error), reason: errorMessage(error) });
    client.abort(error);
  } finally {
    prelude.finish();
  }
}

/** What the client wants: a tunnel, or a request passed on. */
interface Wish {
  readonly address: HostPort;
  readonly request?: { readonly head: Uint8Array; readonly body: HttpRequestBody };
}

/** Reads what the client wants; a request that cannot be served is answered, and undefined returned. */
async function readWish(client: ByteChannel, prelude: ClientPrelude): Promise<Wish | undefined> {
  try {
    const head = await prelude.next(decodeRequestHead);
    const target = readProxyTarget(head);
    if (target.kind === "tunnel") return { address: target.address };
    const request = { head: encodeForwardedHead(head, target), body: new HttpRequestBody(head) };
    return { address: target.address, request };
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    await refuse(client, { status: error.wireCode, error: "http_request_error", details: error.message });
    return undefined;
  }
}

/** Opens the flow; where there is none the client is answered, and undefined returned. */
async function openFlow(
  client: ByteChannel,
  { hostname, port }: HostPort,
  context: LocalClientContext,
): Promise<ByteChannel | undefined> {
  try {
    return await context.connect(context.targetOf(hostname, { protocol: "tcp", port }), {
      signal: context.signal,
    });
  } catch (error) {
    const failure = flowFailure(error);
    context.logger.debug("http_proxy_refused", { code: errorCode(error), reason: failure.details });
    await refuse(client, failure);
    return undefined;
  }
}

async function refuse(client: ByteChannel, failure: FlowFailure): Promise<void> {
  const { status, error, details } = failure;
  const text = `${details.charAt(0).toUpperCase()}${details.slice(1)}`;
  await answerAndEnd(
    client,
    // A 401 or 429 is between the agent and its relay: for the client, the gateway fails.
    encodeProxyResponse(status === 401 ? 502 : status === 429 ? 503 : status, text, [
      ["Proxy-Status", encodeProxyStatus({ proxy: PROXY_NAME, error, details })],
    ]),
  );
}
