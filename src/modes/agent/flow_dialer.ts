/**
 * Opens flows for local clients: checks the view, asks the relays in order, falls over to another connector or relay
 * when one fails, and seals everything end to end.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { FlowRefusedError } from "../../dataplane/errors.ts";
import { openFlow } from "../../dataplane/flow.ts";
import type { SealedChannel } from "../../dataplane/sealed_channel.ts";
import type { RelayClient } from "../shared/relay_client.ts";
import type { ViewHolder } from "../shared/view_holder.ts";
import { FlowAsker, type FlowOffer } from "./flow_asker.ts";
import { type FlowTarget, FlowUnavailableError } from "./local_flow.ts";
import type { SessionPool } from "./sessions.ts";

/** What a dialer needs. */
export interface FlowDialerOptions {
  /** In order of preference. */
  readonly relays: () => readonly RelayClient[];
  readonly views: ViewHolder;
  readonly sessions: SessionPool;
  readonly logger: Logger;
}

/** Milliseconds a relay may take to answer a flow request when there is no other to ask. */
const RELAY_TIMEOUT_MS = 15_000;

/** The same while there is another: long enough for the relay to find one connector silent and ask the next. */
const IMPATIENT_TIMEOUT_MS = 4_000;

/** Milliseconds a client waits for the first view after the agent's start. */
const VIEW_WAIT_MS = 5_000;

/** Port named in requests for services whose port nobody asked for. */
const DEFAULT_PORT = 443;

/** Connectors tried for one flow on one relay. */
const MAX_CONNECTORS = 4;

/** Reasons for which another connector may do better. */
const RETRIED_REASONS: ReadonlySet<string> = new Set([
  "upstream-refused",
  "upstream-unreachable",
  "upstream-timeout",
  "overloaded",
  "draining",
  "internal",
]);

/** Opens sealed flows and ends those that lose their right. */
export class FlowDialer {
  readonly #options: FlowDialerOptions;
  readonly #live = new Set<LiveFlow>();
  readonly #asker: FlowAsker;

  constructor(options: FlowDialerOptions) {
    this.#options = options;
    this.#asker = new FlowAsker(options);
    options.views.onChange(() => this.#viewChanged());
  }

  /** Opens a flow; rejects with `FlowUnavailableError`, `FlowRefusedError` or the signal's reason. */
  async connect(target: FlowTarget, options: { readonly signal: AbortSignal }): Promise<ByteChannel> {
    await this.#authorize(target, options.signal);
    let failure: unknown = noRelay();
    const relays = this.#usableRelays();
    for (const relay of relays) {
      const timeout = relay === relays.at(-1) ? RELAY_TIMEOUT_MS : IMPATIENT_TIMEOUT_MS;
      try {
        return await this.#connectVia(relay, target, { ...options, timeout });
      } catch (error) {
        options.signal.throwIfAborted();
        this.#options.logger.debug("flow_failed", {
          relay: relay.name,
          service: target.service,
          detail: errorMessage(error),
        });
        failure = error;
        if (!mayTryElsewhere(error)) break;
      }
    }
    if (failure instanceof FlowUnavailableError || failure instanceof FlowRefusedError) throw failure;
    throw new FlowUnavailableError(
      { status: 502, error: "proxy_internal_error", details: errorMessage(failure) },
      { cause: failure },
    );
  }

  /** Lets go of what was kept ready for flows to come. */
  close(): void {
    this.#asker.close();
  }

  /** The relays that flows can go by, in the config's order; those that did not answer lately come last. */
  #usableRelays(): RelayClient[] {
    const relays = this.#options.relays()
      .filter((relay) => relay.connection !== undefined || relay.tls.isForced);
    return this.#asker.inOrder(relays);
  }

  async #authorize(target: FlowTarget, signal: AbortSignal): Promise<void> {
    const { views } = this.#options;
    const { service } = target;
    // Right after the start the view may still be on its way.
    await views.waitFor(() => views.isValid, VIEW_WAIT_MS);
    if (views.mayDial(service)) return;
    if (!views.isValid) throw noRelay();
    await this.#reportDenied(target, signal);
    throw new FlowUnavailableError({
      status: 403,
      error: "http_request_denied",
      details: `this identity may not dial ${service}`,
    });
  }

  /** Asks a relay for what our view denies, so that the attempt stands in its audit log. Opens nothing. */
  async #reportDenied(target: FlowTarget, signal: AbortSignal): Promise<void> {
    const [relay] = this.#usableRelays();
    if (relay === undefined) return;
    try {
      await this.#request(relay, target, { avoid: [], signal, timeout: IMPATIENT_TIMEOUT_MS });
    } catch (error) {
      this.#options.logger.debug("flow_denied", { service: target.service, detail: errorMessage(error) });
    }
  }

  /** Tries one relay, and there one connector after the other while each fails for reasons of its own. */
  async #connectVia(relay: RelayClient, target: FlowTarget, options: AskOptions): Promise<ByteChannel> {
    const { signal } = options;
    const avoid: string[] = [];
    let refusal: FlowRefusedError | undefined;
    for (;;) {
      let offer: FlowOffer;
      try {
        offer = await this.#request(relay, target, { ...options, avoid });
      } catch (error) {
        // After a connector's refusal, "no other connector" says less than the refusal itself.
        throw refusal ?? error;
      }
      try {
        return await this.#open(relay, { ...offer, target, signal });
      } catch (error) {
        offer.body.abort(error);
        const retry = error instanceof FlowRefusedError && RETRIED_REASONS.has(error.reason);
        if (!retry || avoid.length + 1 >= MAX_CONNECTORS) throw error;
        refusal ??= error;
        avoid.push(offer.connector.instance);
      }
    }
  }

  /** Asks a relay for a flow; it chooses among the connectors that our view allows, and among no others. */
  async #request(
    relay: RelayClient,
    target: FlowTarget,
    options: AskOptions & { readonly avoid: readonly string[] },
  ): Promise<FlowOffer> {
    const { service, port = DEFAULT_PORT } = target;
    const offer = await this.#asker.ask(relay, { service, port, ...options });
    if (this.#options.views.mayDialAt(service, offer.connector.uri)) return offer;
    offer.body.abort();
    throw new FlowUnavailableError({
      status: 502,
      error: "proxy_internal_error",
      details: "the relay chose a connector that may not offer this service",
    });
  }

  async #open(
    relay: RelayClient,
    flow: FlowOffer & { readonly target: FlowTarget; readonly signal: AbortSignal },
  ): Promise<ByteChannel> {
    const { body, connector, target, signal } = flow;
    const session = await this.#options.sessions.get(relay, connector);
    const channel = await openFlow({
      channel: body,
      session,
      header: {
        service: target.service,
        protocol: "tcp",
        port: target.port ?? DEFAULT_PORT,
      },
      signal,
    });
    return this.#track(channel, { service: target.service, connector: connector.uri });
  }

  /** Watches a flow until its client lets go of it. */
  #track(
    channel: SealedChannel,
    rights: { readonly service: string; readonly connector: string },
  ): ByteChannel {
    const flow: LiveFlow = { ...rights, channel };
    this.#live.add(flow);
    return new TrackedChannel(channel, () => this.#live.delete(flow));
  }

  #viewChanged(): void {
    for (const flow of this.#live) {
      if (!this.#options.views.mayDialAt(flow.service, flow.connector)) {
        flow.channel.abort(new Error("The view no longer allows this flow"));
        this.#live.delete(flow);
      }
    }
    const { peers } = this.#options.views;
    this.#options.sessions.retain((connector) => peers.has(connector));
  }
}

/** Forgets the flow once it was aborted or both its directions have ended. */
class TrackedChannel implements ByteChannel {
  readonly #channel: SealedChannel;
  readonly #forget: () => void;
  #openDirections = 2;

  constructor(channel: SealedChannel, forget: () => void) {
    this.#channel = channel;
    this.#forget = forget;
  }

  /** See {@linkcode SealedChannel.onBreak}. */
  onBreak(callback: (error: Error) => void): () => void {
    return this.#channel.onBreak(callback);
  }

  read(): Promise<Uint8Array<ArrayBuffer> | null> {
    const reading = this.#channel.read();
    reading.then((bytes) => {
      if (bytes === null) this.#ended();
    }, this.#forget);
    return reading;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#channel.write(bytes);
  }

  async closeWrite(): Promise<void> {
    await this.#channel.closeWrite();
    this.#ended();
  }

  abort(reason?: unknown): void {
    this.#channel.abort(reason);
    this.#forget();
  }

  #ended(): void {
    if (--this.#openDirections === 0) this.#forget();
  }
}

/** How long to wait for a relay's answer. */
interface AskOptions {
  readonly signal: AbortSignal;
  /** Milliseconds. */
  readonly timeout: number;
}

interface LiveFlow {
  readonly service: string;
  readonly connector: string;
  readonly channel: ByteChannel;
}

function noRelay(): FlowUnavailableError {
  return new FlowUnavailableError({
    status: 503,
    error: "destination_unavailable",
    details: "no relay connected",
  });
}

/** A refusal by policy is final; anything else may go better at another relay. */
function mayTryElsewhere(error: unknown): boolean {
  if (error instanceof FlowRefusedError) return error.reason !== "denied";
  if (error instanceof FlowUnavailableError) return error.failure.status >= 500;
  return true;
}
