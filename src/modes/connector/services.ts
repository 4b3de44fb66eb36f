/**
 * What a connector offers under one name: where its flows go, how many there are, and whether they would be answered.
 * Here those of the connector's own config; `hosted_service.ts` has those of the network's administrators.
 */

import { sleep } from "../../base/async.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ConnectorConfig } from "../../config/schema/connector.ts";
import { DEFAULT_IDLE_TIMEOUT } from "../../core/policy/document.ts";
import type { TerminatorRank } from "../../core/registry.ts";
import type { FlowWish } from "../../core/service/host_target.ts";
import { FlowRefusedError } from "../../dataplane/errors.ts";
import { dialUpstream } from "../../io/tcp/dial.ts";
import { resolveUpstream } from "../../io/tcp/resolve_upstream.ts";
import { probeUpstream } from "../../io/tcp/probe.ts";
import type { ViewHolder } from "../shared/view_holder.ts";

type ServiceConfig = ConnectorConfig["services"][number];

/** Where one flow goes. Of several addresses the first that answers is meant. */
export type UpstreamTarget =
  | { readonly kind: "tcp" | "udp"; readonly addresses: readonly string[]; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** How much relays should prefer this connector for a service. */
export interface Standing extends TerminatorRank {
  readonly healthy: boolean;
}

/** One offered service. */
export interface OfferedService {
  readonly name: string;
  /** Whether new flows would be answered now. */
  readonly isHealthy: boolean;
  readonly standing: Standing;
  /** Milliseconds after which a flow of datagrams that carries nothing ends. */
  readonly idleTimeout: number;
  /** Counts a flow in; false when the service is full. */
  enter(): boolean;
  /** Counts a flow out. */
  leave(): void;
  /** Where a flow goes: addresses that may be dialled as they are; rejects with {@linkcode FlowRefusedError}. */
  target(wish: FlowWish, signal: AbortSignal): Promise<UpstreamTarget>;
  /** Opens a connection for a flow of TCP; rejects with {@linkcode FlowRefusedError} or `DialError`. */
  dial(wish: CallerWish, signal: AbortSignal): Promise<ByteChannel>;
}

/** What a flow asks for, and who asks. */
export interface CallerWish extends FlowWish {
  /** SPIFFE ID, proven to us by the caller itself where the flow is sealed; the relay's word where it is not. */
  readonly caller: string;
}

/** Milliseconds an upstream may take to accept. */
const UPSTREAM_TIMEOUT_MS = 10_000;

/** A service that the connector's own config names. */
export class ConfiguredService implements OfferedService {
  readonly name: string;
  readonly #config: ServiceConfig;
  readonly #views: Pick<ViewHolder, "bindable">;
  #healthy = true;
  #flows = 0;

  constructor(config: ServiceConfig, views: Pick<ViewHolder, "bindable">) {
    this.name = config.name;
    this.#config = config;
    this.#views = views;
  }

  get idleTimeout(): number {
    const known = this.#views.bindable().find(({ service }) => service === this.name);
    return known?.idleTimeout ?? DEFAULT_IDLE_TIMEOUT * 1_000;
  }

  get isHealthy(): boolean {
    return this.#healthy;
  }

  get standing(): Standing {
    return { healthy: this.#healthy, cost: 0, precedence: "default" };
  }

  enter(): boolean {
    if (this.#flows >= this.#config.maxFlows) return false;
    this.#flows++;
    return true;
  }

  leave(): void {
    this.#flows--;
  }

  async target({ protocol }: FlowWish): Promise<UpstreamTarget> {
    const { upstream } = this.#config;
    if (protocol !== (upstream.kind === "udp" ? "udp" : "tcp")) {
      throw new FlowRefusedError("denied", `The upstream of ${this.name} takes no ${protocol}`);
    }
    if (upstream.kind === "unix") return upstream;
    // The upstream is the operator's own word: names are left to the system, which tries all their addresses.
    const { kind, hostname, port } = upstream;
    return { kind, addresses: kind === "tcp" ? [hostname] : await resolveUpstream(hostname), port };
  }

  dial({ protocol }: FlowWish, signal: AbortSignal): Promise<ByteChannel> {
    const { upstream } = this.#config;
    if (protocol !== "tcp" || upstream.kind === "udp") {
      return Promise.reject(
        new FlowRefusedError("denied", `The upstream of ${this.name} takes no ${protocol}`),
      );
    }
    return dialUpstream(upstream, { timeout: UPSTREAM_TIMEOUT_MS, signal });
  }

  /** Checks the upstream until `signal` fires; without a health check the service always counts as healthy. */
  async watch(
    options: { readonly signal: AbortSignal; readonly logger: Logger; readonly onChange: () => void },
  ): Promise<void> {
    const { healthCheck, upstream } = this.#config;
    if (healthCheck === undefined || upstream.kind === "udp") return;
    const { signal, logger, onChange } = options;
    while (!signal.aborted) {
      let fault: string | undefined;
      try {
        await probeUpstream(upstream, healthCheck);
      } catch (error) {
        fault = errorMessage(error);
      }
      const healthy = fault === undefined;
      if (healthy !== this.#healthy) {
        this.#healthy = healthy;
        logger.warn("upstream_health_changed", {
          service: this.name,
          healthy,
          ...(healthy ? {} : { detail: fault }),
        });
        onChange();
      }
      await sleep(healthCheck.interval, { signal }).catch(() => {});
    }
  }
}
