/**
 * The services a connector offers: their upstreams, how many flows they carry, and whether they answer.
 */

import { sleep } from "../../base/async.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ConnectorConfig } from "../../config/schema/connector.ts";
import { probeUpstream } from "../../io/tcp/probe.ts";
import { dialUpstream } from "../../io/tcp/dial.ts";

type ServiceConfig = ConnectorConfig["services"][number];

/** Milliseconds an upstream may take to accept. */
const UPSTREAM_TIMEOUT_MS = 10_000;

/** One offered service. */
export class OfferedService {
  readonly name: string;
  readonly #config: ServiceConfig;
  #healthy = true;
  #flows = 0;

  constructor(config: ServiceConfig) {
    this.name = config.name;
    this.#config = config;
  }

  get isHealthy(): boolean {
    return this.#healthy;
  }

  /** Counts a flow in; false when the service is full. */
  enter(): boolean {
    if (this.#flows >= this.#config.maxFlows) return false;
    this.#flows++;
    return true;
  }

  /** Counts a flow out. */
  leave(): void {
    this.#flows--;
  }

  /** Opens a connection to the upstream. */
  dial(signal?: AbortSignal): Promise<ByteChannel> {
    return dialUpstream(this.#config.upstream, {
      timeout: UPSTREAM_TIMEOUT_MS,
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** Checks the upstream until `signal` fires; without a health check the service always counts as healthy. */
  async watch(
    options: { readonly signal: AbortSignal; readonly logger: Logger; readonly onChange: () => void },
  ): Promise<void> {
    const { healthCheck, upstream } = this.#config;
    if (healthCheck === undefined) return;
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
