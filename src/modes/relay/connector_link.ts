/**
 * One connector's session at this relay: its control stream, the services it offers, and the streams on which
 * flows reach it (QUIC streams, or TLS connections that it parked here beforehand).
 */

import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import { DeadlineError } from "../../base/async.ts";
import type { Logger } from "../../base/log.ts";
import type { BindingState, ServiceRegistry } from "../../core/registry.ts";
import type { PolicySnapshot } from "../../core/policy/snapshot.ts";
import type { WebTransportSession } from "../../dataplane/carrier.ts";
import { FlowDatagrams } from "../../dataplane/flow_datagrams.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";
import { encodeMessage } from "../../wire/control/framing.ts";
import {
  type ControlMessage,
  controlMessageSchema,
  type FlowHeader,
  flowStatusSchema,
} from "../../wire/control/messages.ts";
import { MessageWriter, readFirstMessage, readMessages } from "../shared/message_channel.ts";
import { prefixedChannel } from "../shared/prefixed_channel.ts";

/** What a link needs. */
export interface ConnectorLinkOptions {
  /** Unique for this process of this connector: SPIFFE ID and the instance it calls itself. */
  readonly key: string;
  /** Tells processes of one identity apart; made by the connector. */
  readonly instance: string;
  readonly id: SpiffeId;
  readonly session: WebTransportSession;
  readonly registry: ServiceRegistry;
  readonly snapshot: () => PolicySnapshot;
  /** Services remembered for this connector, those that policy forbids now included. */
  readonly maxServices: number;
  /** Told of the services it offers, whenever those change. */
  readonly onBound: (services: readonly string[]) => void;
  /** Told of a service it may not offer. */
  readonly onDenied: (service: string, reason: string) => void;
  readonly logger: Logger;
}

/** The connector's answer to a flow. */
export interface OpenedStream {
  readonly status: number;
  readonly channel: ByteChannel;
}

/** Most TLS connections one connector may park; each holds about 60 KB. */
const MAX_PARKED = 16;

/** One connector's session. */
export class ConnectorLink {
  readonly key: string;
  readonly instance: string;
  readonly id: SpiffeId;
  /** The datagrams of its flows: of this session only, so that no connector reaches another's flows. */
  readonly datagrams: FlowDatagrams;
  readonly #options: ConnectorLinkOptions;
  readonly #wanted = new Map<string, { state: BindingState; bound: boolean }>();
  readonly #parked: ParkedChannel[] = [];
  #control: MessageWriter | undefined;

  constructor(options: ConnectorLinkOptions) {
    this.key = options.key;
    this.instance = options.instance;
    this.id = options.id;
    this.datagrams = new FlowDatagrams(options.session.datagrams);
    this.#options = options;
  }

  /** Serves the session until it ends. */
  async serve(): Promise<void> {
    const { session, registry, logger } = this.#options;
    try {
      let first = true;
      for await (const stream of session.incomingStreams()) {
        // Only the control stream is the connector's to open.
        if (!first) {
          stream.abort();
          continue;
        }
        first = false;
        void this.#serveControl(stream);
      }
    } finally {
      const services = registry.drop(this.key);
      for (const parked of this.#parked.splice(0)) parked.discard();
      logger.info("connector_left", { connector: this.id.uri, services });
    }
  }

  /** Opens a stream to the connector, sends `header` and waits `timeout` milliseconds for its answer. */
  async open(header: FlowHeader, options: { readonly timeout: number }): Promise<OpenedStream> {
    // Parked connections are for bulk: of datagrams only those that are too large travel on the stream.
    const parked = header.protocol === "tcp" ? this.#parked.shift() : undefined;
    const channel = parked?.take() ?? await this.#options.session.openStream();
    let late: DeadlineError | undefined;
    // Aborting the channel ends the wait, so that no signal is needed for each flow.
    const timer = setTimeout(() => {
      late = new DeadlineError(`No answer within ${options.timeout} ms`);
      channel.abort(late);
    }, options.timeout);
    try {
      return await this.#exchange(channel, header);
    } catch (error) {
      channel.abort(error);
      throw late ?? error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Keeps a TLS connection of the connector for a flow to come; resolves when it was used or has ended. */
  park(channel: ByteChannel, ended: Promise<unknown>): void {
    if (this.#parked.length >= MAX_PARKED) return channel.abort();
    const parked: ParkedChannel = { take: () => channel, discard: () => channel.abort() };
    this.#parked.push(parked);
    ended.then(() => {
      const index = this.#parked.indexOf(parked);
      if (index >= 0) this.#parked.splice(index, 1);
    });
  }

  /** Applies a new policy: takes bindings away or gives them, and tells the connector. */
  policyChanged(): void {
    for (const [service, { bound }] of this.#wanted) {
      const allowed = this.#options.snapshot().mayBind(this.id.uri, service).verdict === "allow";
      if (allowed !== bound) this.#bind(service);
    }
  }

  /** Asks the connector to take its new work elsewhere. */
  drain(seconds: number): void {
    this.#tell({ type: "drain", seconds });
  }

  async #exchange(channel: ByteChannel, header: FlowHeader): Promise<OpenedStream> {
    await channel.write(encodeMessage(header));
    const { message, rest } = await readFirstMessage(channel, flowStatusSchema);
    return { status: message.status, channel: prefixedChannel(channel, rest) };
  }

  async #serveControl(stream: ByteChannel): Promise<void> {
    const { session, logger } = this.#options;
    this.#control = new MessageWriter(stream);
    try {
      for await (const message of readMessages(stream, controlMessageSchema)) {
        this.#handle(message);
        // A connector that does not read our answers is not heard until it does.
        await this.#control.flushed();
      }
    } catch (error) {
      logger.warn("connector_control_failed", { connector: this.id.uri, detail: errorMessage(error) });
    }
    await session.close(0, "control stream ended");
  }

  #handle(message: ControlMessage): void {
    const { registry } = this.#options;
    switch (message.type) {
      case "bind":
        for (const { name, ...said } of message.services) {
          if (!this.#wanted.has(name) && this.#wanted.size >= this.#options.maxServices) {
            this.#tell({ type: "bound", service: name, ok: false, reason: "services_per_connector" });
            continue;
          }
          this.#wanted.set(name, { state: stateOf(said), bound: false });
          this.#bind(name);
        }
        return;
      case "unbind":
        for (const name of message.services) {
          this.#wanted.delete(name);
          registry.unbind(this.key, name);
        }
        return this.#tellBound();
      case "health": {
        const wanted = this.#wanted.get(message.service);
        if (wanted === undefined) return;
        wanted.state = stateOf(message);
        registry.setState(this.key, message.service, wanted.state);
        return;
      }
      case "drain":
        // The connector is leaving: no new flows, running ones end by themselves.
        for (const name of this.#wanted.keys()) registry.unbind(this.key, name);
        this.#wanted.clear();
        return this.#tellBound();
      case "bound":
      case "unknown":
        // Said by relays, or by a newer connector: nothing to do.
        return;
    }
  }

  #bind(service: string): void {
    const { registry, snapshot, onDenied, logger } = this.#options;
    const wanted = this.#wanted.get(service)!;
    const decision = snapshot().mayBind(this.id.uri, service);
    if (decision.verdict === "deny") {
      registry.unbind(this.key, service);
      wanted.bound = false;
      logger.warn("bind_denied", { connector: this.id.uri, service, reason: decision.reason });
      onDenied(service, decision.reason);
      this.#tellBound();
      return this.#tell({ type: "bound", service, ok: false, reason: decision.reason });
    }
    const result = registry.bind(this.key, this.id.uri, service);
    if (!result.ok) {
      logger.warn("bind_refused", { connector: this.id.uri, service, reason: result.reason });
      return this.#tell({ type: "bound", service, ok: false, reason: result.reason });
    }
    wanted.bound = true;
    registry.setState(this.key, service, wanted.state);
    logger.info("service_bound", { connector: this.id.uri, service });
    this.#tellBound();
    this.#tell({ type: "bound", service, ok: true });
  }

  #tellBound(): void {
    this.#options.onBound([...this.#wanted].filter(([, { bound }]) => bound).map(([name]) => name));
  }

  #tell(message: ControlMessage): void {
    this.#control?.send(message).catch((error) => {
      this.#options.logger.debug("connector_control_unsent", {
        connector: this.id.uri,
        detail: errorMessage(error),
      });
    });
  }
}

/** What a connector said of one of its services. */
function stateOf(
  said: {
    readonly healthy: boolean;
    readonly cost?: number | undefined;
    readonly precedence?: BindingState["precedence"] | undefined;
  },
): BindingState {
  return { healthy: said.healthy, cost: said.cost ?? 0, precedence: said.precedence ?? "default" };
}

interface ParkedChannel {
  readonly take: () => ByteChannel;
  readonly discard: () => void;
}
