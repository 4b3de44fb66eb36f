/**
 * The SOCKS 5 front end: CONNECT and UDP ASSOCIATE to services by name or address, resolved nowhere but in the network.
 *
 * | no flow because | reply |
 * | --- | --- |
 * | policy denies (403), address literals, names that are no service's | 0x02 not allowed |
 * | no connector online, or draining (503) | 0x03 network unreachable |
 * | unknown service (404) | 0x04 host unreachable |
 * | the upstream refused or broke (502) | 0x05 connection refused |
 * | the upstream timed out (504) | 0x06 TTL expired, the nearest to a time-out that RFC 1928 has |
 * | anything else | 0x01 general failure |
 */

import type { ByteChannel } from "../../base/channel.ts";
import { errorCode, errorMessage, ProtocolError } from "../../base/errors.ts";
import {
  decodeSocksGreeting,
  decodeSocksRequest,
  encodeSocksMethod,
  encodeSocksReply,
  NO_ACCEPTABLE_METHODS,
  NO_AUTHENTICATION_REQUIRED,
  SOCKS_REPLY,
  type SocksReply,
  type SocksRequest,
} from "../../wire/socks5.ts";
import { ClientPrelude } from "./client_prelude.ts";
import { answerAndEnd, carryFlow } from "./local_client.ts";
import { flowFailure, type LocalClientContext } from "./local_flow.ts";
import { serveAssociation, type SocksContext } from "./socks5_udp.ts";

/** Serves one SOCKS client until its flow or its association ends. Never rejects. */
export async function handleSocks5(client: ByteChannel, context: SocksContext): Promise<void> {
  const prelude = new ClientPrelude(client, context.handshakeTimeout);
  try {
    const request = await readRequest(client, prelude);
    if (request === undefined) return;
    const first = prelude.finish();
    if (request.command === "associate") return await serveAssociation(client, request, context);
    const flow = await openFlow(client, request, context);
    if (flow === undefined) return;
    const answer = encodeSocksReply(SOCKS_REPLY.succeeded);
    await carryFlow(client, flow, { answer, first, signal: context.signal });
  } catch (error) {
    context.logger.debug("socks_client_failed", { code: errorCode(error), reason: errorMessage(error) });
    client.abort(error);
  } finally {
    prelude.finish();
  }
}

/** Negotiates up to the request; a client that wants what there is not is answered, and undefined returned. */
async function readRequest(client: ByteChannel, prelude: ClientPrelude): Promise<SocksRequest | undefined> {
  const { methods } = await prelude.next(decodeSocksGreeting);
  if (!methods.includes(NO_AUTHENTICATION_REQUIRED)) {
    // RFC 1928 §3: the client is told that none of its methods will do, and must then close.
    await answerAndEnd(client, encodeSocksMethod(NO_ACCEPTABLE_METHODS));
    return undefined;
  }
  await client.write(encodeSocksMethod(NO_AUTHENTICATION_REQUIRED));
  try {
    return await prelude.next(decodeSocksRequest);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    await answerAndEnd(client, encodeSocksReply(error.wireCode as SocksReply));
    return undefined;
  }
}

/** Opens the flow; where there is none the client is answered, and undefined returned. */
async function openFlow(
  client: ByteChannel,
  request: SocksRequest,
  context: LocalClientContext,
): Promise<ByteChannel | undefined> {
  try {
    const { host, port } = request;
    return await context.connect(context.targetOf(host, { protocol: "tcp", port }), {
      signal: context.signal,
    });
  } catch (error) {
    const failure = flowFailure(error);
    context.logger.debug("socks_refused", { code: errorCode(error), reason: failure.details });
    await answerAndEnd(client, encodeSocksReply(REPLIES[failure.status] ?? SOCKS_REPLY.generalFailure));
    return undefined;
  }
}

const REPLIES: Readonly<Record<number, SocksReply>> = {
  403: SOCKS_REPLY.notAllowed,
  404: SOCKS_REPLY.hostUnreachable,
  502: SOCKS_REPLY.connectionRefused,
  503: SOCKS_REPLY.networkUnreachable,
  504: SOCKS_REPLY.ttlExpired,
};
