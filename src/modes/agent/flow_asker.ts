/**
 * Asks one relay for a flow: on a connection parked there, on a TLS connection of its own, or on the QUIC connection.
 * Flows of datagrams go by QUIC wherever it is there: only it has datagrams.
 */

import { DeadlineError, withDeadline } from "../../base/async.ts";
import type { ByteChannel } from "../../base/channel.ts";
import type { Logger } from "../../base/log.ts";
import type { FlowProtocol } from "../../core/service/catalogue.ts";
import type { CarrierKind, ClientConnection, DatagramPort, ResponseHead } from "../../dataplane/carrier.ts";
import { ContextDatagrams } from "../../dataplane/datagram/context_datagrams.ts";
import { encodeMessage } from "../../wire/control/framing.ts";
import { tcpPath, udpPath } from "../../wire/masque/uri.ts";
import { parseProxyStatus } from "../../wire/proxy_status.ts";
import { dialAnswerSchema } from "../shared/dial_messages.ts";
import { readFirstMessage } from "../shared/message_channel.ts";
import { prefixedChannel } from "../shared/prefixed_channel.ts";
import type { RelayClient } from "../shared/relay_client.ts";
import {
  AVOID_HEADER,
  CONNECTOR_HEADER,
  DATAGRAM_SIZE_HEADER,
  INSTANCE_HEADER,
  PROTOCOL_HEADER,
  SEALED_HEADER,
} from "../shared/relay_protocol.ts";
import { SilentPeers } from "../shared/silent_peers.ts";
import { FlowUnavailableError } from "./local_flow.ts";
import { ParkedCarriers } from "./parked_carriers.ts";
import { Patience } from "./patience.ts";
import type { ConnectorChoice } from "./sessions.ts";

/**
 * Milliseconds for an answer on a parked connection. Where this machine has another address since, nothing tells that
 * the connection leads nowhere; another way is asked in time for the flow to begin within two seconds.
 */
const PARKED_ANSWER_MS = 900;

/** What to ask for, and how long to wait. */
export interface FlowWish {
  readonly service: string;
  /** Any, where the protocol has none. */
  readonly port: number;
  readonly protocol: FlowProtocol;
  /** Connector instances not wanted again. */
  readonly avoid: readonly string[];
  readonly signal: AbortSignal;
  /** Milliseconds the relay may take to answer. */
  readonly timeout: number;
}

/** The relay's answer: the flow's stream, and the connector at its far end. */
export interface FlowOffer {
  readonly body: ByteChannel;
  readonly connector: ConnectorChoice;
  /** What carries it to the relay. */
  readonly carrier: CarrierKind;
  /** Carries payloads to the connector and back; nothing where the way has no datagrams. */
  readonly datagrams: DatagramPort;
}

/** Asks relays, and remembers which of them do not answer. */
export class FlowAsker {
  readonly #logger: Logger;
  readonly #silent = new SilentPeers<RelayClient>();
  readonly #patience = new Patience<RelayClient>();
  readonly #parked = new Map<RelayClient, ParkedCarriers>();

  constructor(options: { readonly logger: Logger }) {
    this.#logger = options.logger;
  }

  /** The relays in the given order, but those that did not answer lately last. */
  inOrder(relays: readonly RelayClient[]): RelayClient[] {
    return this.#silent.last([...relays]);
  }

  /** Milliseconds after which a relay that has not answered counts as slow. */
  patience(relay: RelayClient): number {
    return this.#patience.of(relay);
  }

  /** The relay is slow: from now on others go first, and if it gives no sign of life it is given up. */
  doubt(relay: RelayClient): void {
    this.#silent.add(relay);
    void relay.check();
  }

  /** Asks; rejects with `FlowUnavailableError` when the relay refuses, else with what went wrong on the way. */
  async ask(relay: RelayClient, wish: FlowWish): Promise<FlowOffer> {
    const started = performance.now();
    let asking: Promise<FlowOffer> | undefined;
    try {
      const offer = await withDeadline(
        wish.timeout,
        (signal) => asking = this.#ask(relay, { ...wish, signal }),
        wish,
      );
      this.#silent.delete(relay);
      this.#patience.answered(relay, performance.now() - started);
      return offer;
    } catch (error) {
      // An answer that comes when it is no longer wanted must not stay open.
      asking?.then(({ body }) => body.abort(), ignore);
      if (error instanceof DeadlineError) this.doubt(relay);
      else if (error instanceof FlowUnavailableError) this.#silent.delete(relay);
      throw error;
    }
  }

  close(): void {
    for (const parked of this.#parked.values()) parked.close();
  }

  async #ask(relay: RelayClient, wish: FlowWish): Promise<FlowOffer> {
    const parked = wish.protocol === "tcp" ? this.#parkedAt(relay).take() : undefined;
    if (parked !== undefined) {
      const offer = await this.#askByMessage({ relay, body: parked }, wish);
      // A connection can have died while it waited; nothing was asked then.
      if (offer !== undefined) return offer;
    }
    return await this.#askByRequest(relay, wish);
  }

  /** Asks on a parked connection; undefined when it turns out to be dead, or looks so. */
  async #askByMessage(
    { relay, body }: { readonly relay: RelayClient; readonly body: ByteChannel },
    wish: FlowWish,
  ): Promise<FlowOffer | undefined> {
    const { service, port, avoid, signal } = wish;
    let first;
    try {
      first = await withDeadline(PARKED_ANSWER_MS, async () => {
        await body.write(encodeMessage({ type: "dial", service, port, sealed: true, avoid }));
        return await readFirstMessage(body, dialAnswerSchema);
      }, { signal });
    } catch (error) {
      body.abort(error);
      signal.throwIfAborted();
      // Those that wait beside it are no better.
      if (error instanceof DeadlineError) this.#parkedAt(relay).drop();
      return undefined;
    }
    const { status, connector: uri, instance, error, reason } = first.message;
    if (status === 200 && uri !== undefined && instance !== undefined) {
      return {
        body: prefixedChannel(body, first.rest),
        connector: { uri, instance },
        carrier: "tls",
        datagrams: NO_DATAGRAMS,
      };
    }
    body.abort();
    throw new FlowUnavailableError({
      status: status === 200 ? 502 : status,
      error: error ?? "proxy_internal_error",
      details: reason ?? `the relay answered ${status}`,
    });
  }

  async #askByRequest(relay: RelayClient, wish: FlowWish): Promise<FlowOffer> {
    const { service, port, protocol, avoid, signal } = wish;
    const carrier = await takeCarrier(relay, protocol);
    const headers: [string, string][] = [[SEALED_HEADER, "?1"]];
    if (protocol !== "tcp") headers.push([PROTOCOL_HEADER, protocol]);
    if (avoid.length > 0) headers.push([AVOID_HEADER, avoid.join(", ")]);
    if (carrier !== undefined) headers.push(["authorization", await relay.authorization()]);
    const target = { host: service, port };
    const init = {
      method: "CONNECT",
      ...(protocol === "tcp"
        ? { protocol: "connect-tcp", path: tcpPath(target) }
        : { protocol: "connect-udp", path: udpPath(target) }),
      scheme: "https",
      headers,
    };
    const { head, body, datagrams } = carrier === undefined
      ? await relay.request(init, { signal })
      : await carrier.request({ ...init, authority: relay.authority }, { signal });
    const uri = head.headers.get(CONNECTOR_HEADER);
    const instance = head.headers.get(INSTANCE_HEADER);
    if (head.status === 200 && uri !== undefined && instance !== undefined) {
      return {
        body,
        connector: { uri, instance },
        carrier: carrier?.carrier ?? "quic",
        datagrams: new ContextDatagrams(datagrams, { limit: datagramSize(head) }),
      };
    }
    body.abort();
    throw refusedByRelay(head.status, head.headers.get("proxy-status"));
  }

  #parkedAt(relay: RelayClient): ParkedCarriers {
    let parked = this.#parked.get(relay);
    if (parked === undefined) this.#parked.set(relay, parked = new ParkedCarriers(relay, this.#logger));
    return parked;
  }
}

/** A TLS connection for one flow, or none where it goes by the QUIC connection. */
async function takeCarrier(
  relay: RelayClient,
  protocol: FlowProtocol,
): Promise<ClientConnection | undefined> {
  if (protocol !== "tcp" && !relay.tls.isForced) return undefined;
  return await relay.tls.take({ waiting: true });
}

/** What a relay says of the largest payload that it can pass on; none where it says nothing. */
function datagramSize({ headers }: ResponseHead): number {
  const size = headers.get(DATAGRAM_SIZE_HEADER);
  return size !== undefined && /^\d{1,5}$/.test(size) ? Number(size) : 0;
}

const NO_DATAGRAMS: DatagramPort = {
  maxSize: 0,
  send: () => false,
  writable: () => Promise.resolve(),
  receive: ignore,
};

function refusedByRelay(status: number, proxyStatus: string | undefined): FlowUnavailableError {
  const reason = proxyStatus === undefined ? undefined : parseProxyStatus(proxyStatus);
  return new FlowUnavailableError({
    status: status === 200 ? 502 : status,
    error: reason?.error ?? "proxy_internal_error",
    details: reason?.details ?? `the relay answered ${status}`,
  });
}

function ignore(): void {}
