/**
 * Finds a flow its way: checks the view, asks the relays in order, and turns to another connector or relay when one
 * fails or is slow.
 */

import { withDeadline, withSignal } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { race } from "../../base/race.ts";
import type { FlowProtocol } from "../../core/service/catalogue.ts";
import { FlowRefusedError } from "../../dataplane/errors.ts";
import type { Session } from "../../dataplane/session.ts";
import type { RelayClient } from "../shared/relay_client.ts";
import type { ViewHolder } from "../shared/view_holder.ts";
import { FlowAsker, type FlowOffer } from "./flow_asker.ts";
import { type FlowTarget, FlowUnavailableError } from "./local_flow.ts";
import type { SessionPool } from "./sessions.ts";

/** What finding ways needs. */
export interface WayFinderOptions {
  /** In order of preference. */
  readonly relays: () => readonly RelayClient[];
  readonly views: ViewHolder;
  readonly sessions: SessionPool;
  readonly logger: Logger;
}

/** Where a flow of any protocol is to lead. */
export interface DialTarget extends FlowTarget {
  readonly protocol: FlowProtocol;
}

/** All that a flow needs before it is opened. */
export interface Way extends FlowOffer {
  readonly relay: RelayClient;
  readonly session: Session;
}

/** Port named in requests for services whose port nobody asked for. */
export const DEFAULT_PORT = 443;

/** Port named in requests for flows that have none: paths cannot do without. */
const NO_PORT = 1;

/** Milliseconds a relay may take to answer a flow request: it asks several connectors, some of which keep silent. */
const RELAY_TIMEOUT_MS = 15_000;

/** Milliseconds for the report of what our own view denies, which its client waits for. */
const REPORT_TIMEOUT_MS = 1_500;

/** Milliseconds a client waits for the first view after the agent's start. */
const VIEW_WAIT_MS = 5_000;

/**
 * Milliseconds for which a flow waits while no relay is connected: a machine that woke up has its network back by then, and
 * a program that hears "unreachable" tells its user sooner than one that hangs.
 */
const RELAY_WAIT_MS = 1_500;

/** Milliseconds an opening flow waits before its relay is asked for a sign of life, and between such questions. */
const DOUBT_MS = 500;

/** Connectors tried for one flow. */
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

/** Finds ways, and remembers which relays do not answer. */
export class WayFinder {
  readonly #options: WayFinderOptions;
  readonly #asker: FlowAsker;

  constructor(options: WayFinderOptions) {
    this.#options = options;
    this.#asker = new FlowAsker(options);
  }

  /**
   * Finds ways until `open` opens a flow on one; rejects with `FlowUnavailableError`, `FlowRefusedError` or the signal's
   * reason.
   */
  async dial<T>(
    target: DialTarget,
    { open, signal }: { readonly open: (way: Way) => Promise<T>; readonly signal: AbortSignal },
  ): Promise<T> {
    await this.#authorize(target, signal);
    let relays = await this.#awaitRelays(signal);
    let refusal: FlowRefusedError | undefined;
    const avoid: string[] = [];
    for (;;) {
      let way: Way;
      try {
        way = await this.#findWay(relays, { target, avoid, signal });
      } catch (error) {
        signal.throwIfAborted();
        // After a connector's refusal, "no other connector" says less than the refusal itself.
        throw refusal ?? unavailable(error);
      }
      try {
        return await this.#open(way, open);
      } catch (error) {
        way.body.abort(error);
        signal.throwIfAborted();
        this.#failed(way.relay, target, error);
        if (!mayTryElsewhere(error)) throw error;
        if (error instanceof FlowRefusedError) {
          refusal ??= error;
          if (avoid.length + 1 >= MAX_CONNECTORS) throw refusal;
          avoid.push(way.connector.instance);
        }
        if (!(error instanceof FlowRefusedError && RETRIED_REASONS.has(error.reason))) {
          relays = relays.filter((relay) => relay !== way.relay);
          if (relays.length === 0) throw refusal ?? unavailable(error);
        }
      }
    }
  }

  /** A relay is silent: others go first, and without a sign of life it is given up. */
  doubt(relay: RelayClient): void {
    this.#asker.doubt(relay);
  }

  /** Lets go of what was kept ready for flows to come. */
  close(): void {
    this.#asker.close();
  }

  /**
   * The relays that flows can go by, in the config's order; those that did not answer lately come last, and before
   * them those without a connection, to which only TLS may lead.
   */
  #usableRelays(): RelayClient[] {
    const isConnected = ({ connection }: RelayClient) => connection !== undefined;
    const relays = this.#options.relays();
    return this.#asker.inOrder([
      ...relays.filter(isConnected),
      ...relays.filter((relay) => !isConnected(relay) && relay.tls.isForced),
    ]);
  }

  /** The usable relays; where there is none, they are dialled at once and waited for, but not for long. */
  async #awaitRelays(signal: AbortSignal): Promise<RelayClient[]> {
    const relays = this.#usableRelays();
    const listed = this.#options.relays();
    if (relays.length > 0 || listed.length === 0) return relays;
    await withDeadline(RELAY_WAIT_MS, (over) => Promise.any(listed.map((relay) => relay.hurry(over))), {
      signal,
    }).catch(() => signal.throwIfAborted());
    return this.#usableRelays();
  }

  async #authorize(target: DialTarget, signal: AbortSignal): Promise<void> {
    const { views } = this.#options;
    const { service } = target;
    if (views.isRefused) {
      throw new FlowUnavailableError({
        status: 403,
        error: "http_request_denied",
        details: "the network does not admit this identity any more",
      });
    }
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
  async #reportDenied(target: DialTarget, signal: AbortSignal): Promise<void> {
    const [relay] = this.#usableRelays();
    if (relay === undefined) return;
    try {
      await this.#request(relay, { target, avoid: [], signal, timeout: REPORT_TIMEOUT_MS });
    } catch (error) {
      this.#options.logger.debug("flow_denied", { service: target.service, detail: errorMessage(error) });
    }
  }

  /** The first way that is found over one of the relays; a slow one is not waited for while there are others. */
  async #findWay(relays: readonly RelayClient[], wish: FlowWishes): Promise<Way> {
    if (relays.length === 0) throw noRelay();
    return await race(relays, {
      signal: wish.signal,
      headStart: (relay) => this.#asker.patience(relay),
      attempt: async (relay, signal) => {
        try {
          return await this.#way(relay, { ...wish, signal });
        } catch (error) {
          if (!signal.aborted) this.#failed(relay, wish.target, error);
          throw error;
        }
      },
      discard: ({ body }) => body.abort(),
      onSlow: (relay) => this.#asker.doubt(relay),
      isFinal: (error) => !mayTryElsewhere(error),
    });
  }

  /** Asks a relay, and meets the connector it chose. The connector has heard of no flow until it is opened. */
  async #way(relay: RelayClient, wish: FlowWishes): Promise<Way> {
    const offer = await this.#request(relay, { ...wish, timeout: RELAY_TIMEOUT_MS });
    try {
      const session = await withSignal(this.#options.sessions.get(relay, offer.connector), wish.signal);
      return { ...offer, relay, session };
    } catch (error) {
      offer.body.abort(error);
      throw error;
    }
  }

  /** Asks a relay for a flow; it chooses among the connectors that our view allows, and among no others. */
  async #request(
    relay: RelayClient,
    { target, ...options }: FlowWishes & { readonly timeout: number },
  ): Promise<FlowOffer> {
    const { service, protocol, port = DEFAULT_PORT } = target;
    const asked = { service, protocol, port: protocol === "icmp" ? NO_PORT : port };
    const offer = await this.#asker.ask(relay, { ...asked, ...options });
    if (this.#options.views.mayDialAt(service, offer.connector.uri)) return offer;
    offer.body.abort();
    throw new FlowUnavailableError({
      status: 502,
      error: "proxy_internal_error",
      details: "the relay chose a connector that may not offer this service",
    });
  }

  async #open<T>(way: Way, open: (way: Way) => Promise<T>): Promise<T> {
    // The connector may be waiting for its upstream, or the relay be dead: only the relay itself can tell.
    const doubting = setInterval(() => void way.relay.check(), DOUBT_MS);
    try {
      return await open(way);
    } finally {
      clearInterval(doubting);
    }
  }

  #failed(relay: RelayClient, { service }: DialTarget, error: unknown): void {
    this.#options.logger.debug("flow_failed", { relay: relay.name, service, detail: errorMessage(error) });
  }
}

/** What a flow is wanted for, and which connector instances it is not wanted with again. */
interface FlowWishes {
  readonly target: DialTarget;
  readonly avoid: readonly string[];
  readonly signal: AbortSignal;
}

function noRelay(): FlowUnavailableError {
  return new FlowUnavailableError({
    status: 503,
    error: "destination_unavailable",
    details: "no relay connected",
  });
}

/** What a client is told when no relay gave a flow: the last thing that was said of it, rather than what broke. */
function unavailable(error: unknown): FlowUnavailableError {
  const errors = error instanceof AggregateError ? error.errors : [error];
  const said = errors.findLast((each) => each instanceof FlowUnavailableError);
  if (said !== undefined) return said;
  const cause = errors.at(-1);
  return new FlowUnavailableError(
    { status: 502, error: "proxy_internal_error", details: errorMessage(cause) },
    { cause },
  );
}

/** A refusal by policy is final; anything else may go better at another relay. */
function mayTryElsewhere(error: unknown): boolean {
  if (error instanceof FlowRefusedError) return error.reason !== "denied";
  if (error instanceof FlowUnavailableError) return error.failure.status >= 500;
  return true;
}
