/**
 * Opens flows for local clients, sealed end to end, and ends those that lose their right.
 */

import type { ByteChannel } from "../../base/channel.ts";
import type { DatagramFlow } from "../../dataplane/datagram/datagram_flow.ts";
import { openDatagramFlow } from "../../dataplane/datagram/open_datagram_flow.ts";
import type { SealedDatagramFlow } from "../../dataplane/datagram/sealed_datagram_flow.ts";
import { openFlow } from "../../dataplane/flow.ts";
import type { SealedChannel } from "../../dataplane/sealed_channel.ts";
import type { RelayClient } from "../shared/relay_client.ts";
import { ConnectorWatch } from "./connector_watch.ts";
import { DatagramWatch } from "./datagram_watch.ts";
import { BothSigns, FlowWatch, type WatchSigns } from "./flow_watch.ts";
import type { DatagramTarget, FlowTarget } from "./local_flow.ts";
import { type ServiceUsage, UsageTable } from "./service_usage.ts";
import { TrackedChannel } from "./tracked_channel.ts";
import { DEFAULT_PORT, type DialTarget, type Way, WayFinder, type WayFinderOptions } from "./way_finder.ts";

/** What a dialer needs. */
export type FlowDialerOptions = WayFinderOptions;

/** Milliseconds after which a flow of datagrams that carries nothing ends, where no view says it. */
const IDLE_MS = 120_000;

/** Opens sealed flows and ends those that lose their right. */
export class FlowDialer {
  readonly #options: FlowDialerOptions;
  readonly #live = new Set<LiveFlow>();
  readonly #ways: WayFinder;
  readonly #watch: FlowWatch<RelayClient>;
  readonly #connectorWatch: ConnectorWatch;
  readonly #datagramWatch = new DatagramWatch();
  readonly #usage = new UsageTable();

  constructor(options: FlowDialerOptions) {
    this.#options = options;
    this.#ways = new WayFinder(options);
    this.#watch = new FlowWatch({ onSilent: (relay) => this.#ways.doubt(relay) });
    this.#connectorWatch = new ConnectorWatch((path, signal) => options.sessions.ask(path, signal));
    options.views.onChange(() => this.#viewChanged());
  }

  /** What is used of the services that may be dialled. */
  get usage(): ReadonlyMap<string, ServiceUsage> {
    return this.#usage.services;
  }

  /** Opens a flow; rejects with `FlowUnavailableError`, `FlowRefusedError` or the signal's reason. */
  connect(target: FlowTarget, { signal }: { readonly signal: AbortSignal }): Promise<ByteChannel> {
    return this.#ways.dial({ ...target, protocol: "tcp" }, {
      signal,
      open: async (way) => {
        const header = headerOf({ ...target, protocol: "tcp" });
        const channel = await openFlow({ channel: way.body, session: way.session, header, signal });
        return this.#track(channel, target.service, way);
      },
    });
  }

  /** Opens a flow of datagrams; it ends when it is idle too long. Rejects as {@linkcode connect} does. */
  connectDatagrams(
    target: DatagramTarget,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<DatagramFlow> {
    return this.#ways.dial(target, {
      signal,
      open: async (way) => {
        const { body, datagrams, session } = way;
        const flow = await openDatagramFlow({
          channel: body,
          datagrams,
          session,
          header: headerOf(target),
          signal,
        });
        return this.#trackDatagrams(flow, target.service, way);
      },
    });
  }

  /** Lets go of what was kept ready for flows to come. */
  close(): void {
    this.#ways.close();
    this.#watch.close();
    this.#connectorWatch.close();
    this.#datagramWatch.close();
  }

  /** Watches a flow until its client lets go of it. */
  #track(channel: SealedChannel, service: string, way: Way): ByteChannel {
    const { signs, leave } = this.#enter(service, way, (reason) => channel.abort(reason));
    return new TrackedChannel(channel, { signs, forget: leave });
  }

  #trackDatagrams(flow: SealedDatagramFlow, service: string, way: Way): DatagramFlow {
    const { signs, leave } = this.#enter(service, way, (reason) => flow.fail(reason));
    const stop = this.#datagramWatch.enter(flow, { signs, idleTimeout: this.#idleTimeout(service) });
    flow.closed.then(() => {
      stop();
      signs.leave();
      leave();
    });
    return flow;
  }

  #enter(
    service: string,
    way: Way,
    end: (reason: Error) => void,
  ): { readonly signs: WatchSigns; readonly leave: () => void } {
    const { relay, connector, carrier } = way;
    const flow: LiveFlow = { service, connector: connector.uri, end };
    this.#live.add(flow);
    const leave = this.#usage.enter(service, {
      relay: relay.name,
      connector: connector.uri,
      carrier,
      direct: false,
    });
    // The view may have changed while the flow was opened.
    queueMicrotask(() => this.#check(flow));
    return {
      signs: new BothSigns(this.#watch.enter(relay), this.#connectorWatch.enter(way)),
      leave: () => {
        this.#live.delete(flow);
        leave();
      },
    };
  }

  #idleTimeout(service: string): number {
    const known = this.#options.views.dialable().find((each) => each.service === service);
    return known?.idleTimeout ?? IDLE_MS;
  }

  #check(flow: LiveFlow): void {
    if (!this.#live.has(flow) || this.#options.views.mayDialAt(flow.service, flow.connector)) return;
    this.#live.delete(flow);
    flow.end(new Error("The view no longer allows this flow"));
  }

  #viewChanged(): void {
    const { views, sessions } = this.#options;
    for (const flow of this.#live) this.#check(flow);
    this.#usage.retain((service) => views.mayDial(service));
    const { peers } = views;
    sessions.retain((connector) => peers.has(connector));
  }
}

interface LiveFlow {
  readonly service: string;
  /** SPIFFE ID. */
  readonly connector: string;
  readonly end: (reason: Error) => void;
}

/** What is sealed in OPEN; the relay says the same to the connector, but for the address. */
function headerOf({ service, protocol, port = DEFAULT_PORT, address }: DialTarget) {
  return { service, protocol, port: protocol === "icmp" ? undefined : port, address };
}
