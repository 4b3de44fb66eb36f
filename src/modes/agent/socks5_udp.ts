/**
 * UDP ASSOCIATE of SOCKS 5 (RFC 1928 §7): a UDP socket for one client, as long as its TCP connection lives. Each place
 * that the client's datagrams name has a flow of its own.
 */

import { concat } from "../../base/bytes.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorCode } from "../../base/errors.ts";
import type { HostPort } from "../../base/address.ts";
import { listenUdp, type UdpListener } from "../../io/udp/listen.ts";
import { decodeSocksDatagram, encodeSocksReply, SOCKS_REPLY, type SocksRequest } from "../../wire/socks5.ts";
import { type DatagramClient, DatagramFlows } from "./datagram_flows.ts";
import type { SocketEnds } from "./front_end.ts";
import { answerAndEnd } from "./local_client.ts";
import type { ConnectDatagrams, LocalClientContext } from "./local_flow.ts";

/** Places that one client sends to at once. */
const MAX_PLACES = 256;

/** What a SOCKS client's handler works with. */
export interface SocksContext extends LocalClientContext {
  readonly connectDatagrams: ConnectDatagrams;
  readonly ends: SocketEnds;
}

/** Tells the client where its datagrams are taken and carries them until its connection ends. */
export async function serveAssociation(
  client: ByteChannel,
  request: SocksRequest,
  context: SocksContext,
): Promise<void> {
  const { logger, ends: { local } } = context;
  let association: Association;
  try {
    association = new Association(request.port, context);
  } catch (error) {
    logger.warn("socks_udp_failed", { code: errorCode(error) });
    return await answerAndEnd(client, encodeSocksReply(SOCKS_REPLY.generalFailure));
  }
  try {
    const { port } = association.address;
    await client.write(encodeSocksReply(SOCKS_REPLY.succeeded, { hostname: local.hostname, port }));
    // RFC 1928 §7: the association ends with the connection; nothing more is said on it.
    while (await client.read() !== null);
    await client.closeWrite();
  } finally {
    await association.close();
  }
}

class Association {
  readonly #context: SocksContext;
  readonly #flows: DatagramFlows;
  readonly #socket: UdpListener;
  /** The one port of the client from which datagrams are taken: that announced, or that of its first datagram. */
  #port: number | undefined;

  constructor(port: number, context: SocksContext) {
    const { connectDatagrams: connect, logger, ends } = context;
    this.#context = context;
    this.#port = port === 0 ? undefined : port;
    this.#flows = new DatagramFlows({ connect, logger, maxFlows: MAX_PLACES });
    this.#socket = listenUdp(
      { hostname: ends.local.hostname, port: 0 },
      (bytes, from) => this.#take(bytes, from),
    );
  }

  get address(): HostPort {
    return this.#socket.address;
  }

  close(): Promise<void> {
    this.#flows.close(new Error("The SOCKS client is gone"));
    return this.#socket.close();
  }

  #take(bytes: Uint8Array<ArrayBuffer>, from: HostPort): void {
    // RFC 1928 §7: datagrams from any other address than the client's are dropped.
    if (from.hostname !== this.#context.ends.remote.hostname) return;
    if (this.#port !== undefined && from.port !== this.#port) return;
    const datagram = decodeSocksDatagram(bytes);
    // RFC 1928 §7: who does not put fragments together drops them.
    if (datagram === undefined || datagram.fragment !== 0) return;
    this.#port ??= from.port;
    const { host, port, length } = datagram;
    this.#flows.send(`${host} ${port}`, bytes.subarray(length), () => {
      const header = bytes.slice(0, length);
      return this.#begin(host, {
        port,
        reply: (payload) => this.#socket.send(concat([header, payload]), from),
      });
    });
  }

  /** The flow of a place; none where there is no such service, which UDP has no way to say. */
  #begin(
    host: string,
    { port, reply }: { readonly port: number; readonly reply: (payload: Uint8Array) => void },
  ): DatagramClient | undefined {
    try {
      const target = this.#context.targetOf(host, { protocol: "udp", port });
      return { target: { ...target, protocol: "udp" }, receive: reply };
    } catch (error) {
      this.#context.logger.debug("socks_udp_refused", { code: errorCode(error) });
      return undefined;
    }
  }
}
