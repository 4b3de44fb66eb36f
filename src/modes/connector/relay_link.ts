/**
 * A connector's life at one relay: opens its session, binds its services, serves the streams the relay opens, and
 * keeps a few TLS connections parked there for flows that want speed.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import { sleep } from "../../base/async.ts";
import type { Logger } from "../../base/log.ts";
import type { ClientConnection, WebTransportSession } from "../../dataplane/carrier.ts";
import { FlowDatagrams } from "../../dataplane/flow_datagrams.ts";
import { type ControlMessage, controlMessageSchema } from "../../wire/control/messages.ts";
import { H3_NO_ERROR } from "../../wire/h3/codes.ts";
import { CONNECTOR_PATH } from "../../wire/masque/uri.ts";
import { MessageWriter, readMessages } from "../shared/message_channel.ts";
import { INSTANCE_HEADER, PARK_PROTOCOL } from "../shared/relay_protocol.ts";
import { prefixedChannel } from "../shared/prefixed_channel.ts";
import type { RelayClient } from "../shared/relay_client.ts";
import type { FlowServer } from "./flow_server.ts";
import type { OfferedService } from "./services.ts";

/** What a link needs. */
export interface RelayLinkOptions {
  readonly client: () => RelayClient;
  /** Tells this process apart from others of the same identity. */
  readonly instance: string;
  /** Those offered now; tell the link of changes by {@linkcode RelayLink.offer} and {@linkcode RelayLink.withdraw}. */
  readonly services: ReadonlyMap<string, OfferedService>;
  readonly flows: FlowServer;
  /** Told when the relay has accepted a service. */
  readonly onBound?: (service: string) => void;
  readonly logger: Logger;
}

/** Services named in one message: with the longest names it is just short enough. */
const BIND_BATCH = 48;

/** TLS connections kept parked at a relay: as many flows start fast at once; about 60 KB each at the relay. */
const PARKED = 8;

/** Milliseconds a parked connection waits for a flow before it is replaced: less than the relay's idle time-out. */
const PARK_LIFETIME_MS = 240_000;

/** Milliseconds before parking is tried again after the carrier was found not worth it. */
const PARK_RETRY_MS = 5_000;

/** A connector at one relay. */
export class RelayLink {
  readonly #options: RelayLinkOptions;
  #control: MessageWriter | undefined;
  readonly #bound = new Set<string>();

  constructor(options: RelayLinkOptions) {
    this.#options = options;
  }

  /** Services the relay accepted. */
  get bound(): ReadonlySet<string> {
    return this.#bound;
  }

  /** Sets up the session on a fresh connection; serving goes on after this resolves. */
  async connected(connection: ClientConnection): Promise<void> {
    const { client, instance } = this.#options;
    const session = await connection.connectWebTransport({
      authority: client().authority,
      path: CONNECTOR_PATH,
      headers: [[INSTANCE_HEADER, instance]],
    });
    const control = await session.openStream();
    this.#control = new MessageWriter(control);
    void this.#followControl(control, session);
    void this.#serveStreams(session);
    session.closed.then(({ reason }) => connection.close(H3_NO_ERROR, reason || "session ended"));
    await Promise.all(
      bindMessages([...this.#options.services.values()]).map((bind) => this.#control!.send(bind)),
    );
    void this.#keepParked(connection);
  }

  lost(): void {
    this.#control = undefined;
    this.#bound.clear();
  }

  /** Tells the relay how a service is. */
  standingChanged(service: OfferedService): void {
    this.#tell({ type: "health", service: service.name, ...service.standing });
  }

  /** Offers services that were not there when the session began. */
  offer(services: readonly OfferedService[]): void {
    for (const bind of bindMessages(services)) this.#tell(bind);
  }

  /** Offers services no longer; running flows go on. */
  withdraw(names: readonly string[]): void {
    for (const name of names) this.#bound.delete(name);
    for (let start = 0; start < names.length; start += BIND_BATCH) {
      this.#tell({ type: "unbind", services: names.slice(start, start + BIND_BATCH) });
    }
  }

  /** Asks the relay for no more flows. */
  drain(seconds: number): void {
    this.#tell({ type: "drain", seconds });
  }

  #tell(message: ControlMessage): void {
    this.#control?.send(message).catch((error) => {
      this.#options.logger.debug("control_unsent", { detail: errorMessage(error) });
    });
  }

  async #serveStreams(session: WebTransportSession): Promise<void> {
    const datagrams = new FlowDatagrams(session.datagrams);
    try {
      for await (const stream of session.incomingStreams()) {
        void this.#options.flows.serve(stream, datagrams);
      }
    } catch (error) {
      this.#options.logger.debug("session_ended", { detail: errorMessage(error) });
    }
  }

  async #followControl(
    control: ByteChannel,
    session: WebTransportSession,
  ): Promise<void> {
    const { logger, client } = this.#options;
    try {
      for await (const message of readMessages(control, controlMessageSchema)) this.#handle(message);
    } catch (error) {
      logger.debug("control_ended", { relay: client().name, detail: errorMessage(error) });
    }
    await session.close(0, "control stream ended");
  }

  #handle(message: ControlMessage): void {
    const { logger, client } = this.#options;
    if (message.type === "drain") {
      logger.info("relay_draining", { relay: client().name, seconds: message.seconds });
      return;
    }
    if (message.type !== "bound") return;
    const { service, ok } = message;
    if (ok) {
      this.#bound.add(service);
      this.#options.onBound?.(service);
      logger.info("service_bound", { relay: client().name, service });
    } else {
      this.#bound.delete(service);
      logger.warn("service_not_bound", { relay: client().name, service, reason: message.reason });
    }
  }

  /** Keeps connections parked while the relay is there; they are dialled one after the other. */
  async #keepParked(connection: ClientConnection): Promise<void> {
    const lost = new AbortController();
    connection.closed.then(() => lost.abort());
    const { signal } = lost;
    const parked = new Set<Promise<void>>();
    while (!signal.aborted) {
      if (parked.size >= PARKED) await Promise.race(parked);
      const body = await this.#parkOne();
      if (body === undefined) {
        await sleep(PARK_RETRY_MS, { signal }).catch(() => {});
        continue;
      }
      const waiting = this.#awaitFlow(body, signal).finally(() => parked.delete(waiting));
      parked.add(waiting);
    }
  }

  /** Parks one connection; undefined when the carrier is not worth it now, or the relay wants none. */
  async #parkOne(): Promise<ByteChannel | undefined> {
    const { client, instance, logger } = this.#options;
    try {
      const carrier = await client().tls.take();
      if (carrier === undefined) return undefined;
      const { head, body } = await carrier.request({
        method: "CONNECT",
        protocol: PARK_PROTOCOL,
        scheme: "https",
        authority: client().authority,
        path: CONNECTOR_PATH,
        headers: [["authorization", await client().authorization()], [INSTANCE_HEADER, instance]],
      });
      if (head.status === 200) return body;
      body.abort();
    } catch (error) {
      logger.debug("parking_failed", { relay: client().name, detail: errorMessage(error) });
    }
    return undefined;
  }

  /** Waits at a parked connection; resolves when a flow has come, or its time is over. Never rejects. */
  async #awaitFlow(body: ByteChannel, signal: AbortSignal): Promise<void> {
    let isOurs = false;
    const end = () => {
      isOurs = true;
      body.abort();
    };
    signal.addEventListener("abort", end, { once: true });
    const timer = setTimeout(end, PARK_LIFETIME_MS);
    try {
      const first = await body.read();
      if (first === null) this.#doubt();
      else void this.#options.flows.serve(prefixedChannel(body, first));
    } catch (error) {
      if (!isOurs) this.#doubt();
      this.#options.logger.debug("parked_connection_ended", { detail: errorMessage(error) });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
    }
  }

  /** A parked connection ended before its time: of a killed relay that is the first trace. */
  #doubt(): void {
    void this.#options.client().check();
  }
}

function bindMessages(services: readonly OfferedService[]): ControlMessage[] {
  const messages: ControlMessage[] = [];
  for (let start = 0; start < services.length; start += BIND_BATCH) {
    messages.push({
      type: "bind",
      services: services.slice(start, start + BIND_BATCH)
        .map(({ name, standing }) => ({ name, protocol: "tcp" as const, ...standing })),
    });
  }
  return messages;
}
