/** A service that the network's administrators define: `host.v1` says where its flows go and how its health is seen. */

import { sleep, withDeadline } from "../../base/async.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Host } from "../../core/service/host.ts";
import { HostHealth } from "../../core/service/host_health.ts";
import { type FlowWish, hostTarget } from "../../core/service/host_target.ts";
import { FlowRefusedError } from "../../dataplane/errors.ts";
import { DialError, dialUpstream } from "../../io/tcp/dial.ts";
import type { BindableService } from "../shared/view_services.ts";
import { type HostCheck, hostChecks } from "./host_checks.ts";
import type { HostingReach } from "./hosting_reach.ts";
import type { OfferedService, Standing, UpstreamTarget } from "./services.ts";

/** Seconds an upstream may take to accept when its config does not say; the opening of a flow as a whole has no more. */
const CONNECT_SECONDS = 10;

/** Flows at once when the config does not say. */
const MAX_CONNECTIONS = 1_024;

/** What a hosted service needs. */
export interface HostedServiceOptions {
  readonly reach: HostingReach;
  readonly logger: Logger;
}

/** One hosted service. */
export class HostedService implements OfferedService {
  readonly name: string;
  readonly idleTimeout: number;
  readonly #host: Host;
  readonly #reach: HostingReach;
  readonly #logger: Logger;
  readonly #checks: readonly HostCheck[];
  readonly #health: HostHealth;
  #flows = 0;

  constructor(
    { service, host, idleTimeout }: BindableService & { readonly host: Host },
    options: HostedServiceOptions,
  ) {
    this.name = service;
    this.idleTimeout = idleTimeout;
    this.#host = host;
    this.#reach = options.reach;
    this.#logger = options.logger;
    this.#checks = hostChecks(host, options.reach);
    this.#health = new HostHealth(this.#checks.map(({ actions }) => actions), {
      cost: host.listenOptions?.cost,
    });
  }

  get isHealthy(): boolean {
    return this.#health.isHealthy;
  }

  get standing(): Standing {
    const { isHealthy, cost } = this.#health;
    return { healthy: isHealthy, cost, precedence: this.#host.listenOptions?.precedence ?? "default" };
  }

  enter(): boolean {
    if (this.#flows >= (this.#host.listenOptions?.maxConnections ?? MAX_CONNECTIONS)) return false;
    this.#flows++;
    return true;
  }

  leave(): void {
    this.#flows--;
  }

  async target(wish: FlowWish): Promise<UpstreamTarget> {
    const target = hostTarget(this.#host, wish);
    if (!target.ok) throw new FlowRefusedError("denied", `Service ${this.name}: ${target.detail}`);
    const { protocol: kind, host, port } = target;
    return { kind, addresses: await this.#reach.addresses(host, port), port };
  }

  async dial(wish: FlowWish, signal: AbortSignal): Promise<ByteChannel> {
    const seconds = this.#host.listenOptions?.connectTimeoutSeconds ?? CONNECT_SECONDS;
    const deadline = performance.now() + seconds * 1_000;
    const target = await withDeadline(seconds * 1_000, () => this.target(wish), { signal });
    if (target.kind !== "tcp") {
      throw new FlowRefusedError("denied", `Service ${this.name} takes no connections`);
    }
    const { addresses, port } = target;
    let failure: unknown = new DialError("ERR_UPSTREAM_NOT_FOUND", `Upstream of ${this.name} has no address`);
    for (const [index, hostname] of addresses.entries()) {
      // Each address gets its share of what is left, so that one that swallows everything leaves time for the next.
      const timeout = Math.max(1, (deadline - performance.now()) / (addresses.length - index));
      try {
        return await dialUpstream({ kind: "tcp", hostname, port }, { timeout, signal });
      } catch (error) {
        if (signal.aborted) throw error;
        failure = error;
      }
    }
    throw failure;
  }

  /** Runs the checks until `signal` fires; never rejects. */
  async watch(options: { readonly signal: AbortSignal; readonly onChange: () => void }): Promise<void> {
    await Promise.all(this.#checks.map((check, index) => this.#repeat(check, { ...options, index })));
  }

  async #repeat(
    check: HostCheck,
    { index, signal, onChange }: {
      readonly index: number;
      readonly signal: AbortSignal;
      readonly onChange: () => void;
    },
  ): Promise<void> {
    while (!signal.aborted) {
      let fault: string | undefined;
      try {
        await withDeadline(check.timeout, check.run, { signal });
      } catch (error) {
        if (signal.aborted) return;
        fault = errorMessage(error);
      }
      const before = this.standing;
      this.#health.record(index, fault === undefined, performance.now());
      const { healthy, cost } = this.standing;
      if (healthy !== before.healthy || cost !== before.cost) {
        this.#logger.warn("upstream_health_changed", {
          service: this.name,
          check: check.name,
          healthy,
          cost,
          ...(fault === undefined ? {} : { detail: fault }),
        });
        onChange();
      }
      await sleep(check.interval, { signal }).catch(() => {});
    }
  }
}
