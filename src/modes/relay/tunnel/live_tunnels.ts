/**
 * The IP tunnels of a relay for as long as it runs: they follow what its source says. Other pools mean other tunnels,
 * which take the place of those that run.
 */

import { sleep } from "../../../base/async.ts";
import { errorMessage } from "../../../base/errors.ts";
import { formatPrefix } from "../../../base/ip.ts";
import type { ServerRequest } from "../../../dataplane/carrier.ts";
import { type Refusal, REFUSALS } from "../refusal.ts";
import type { NetworkSource } from "../source/network_source.ts";
import { IpTunnels, type IpTunnelsOptions, type TunnelController } from "./ip_tunnels.ts";

/** What tunnels need of their relay. */
export interface LiveTunnelsOptions extends Pick<IpTunnelsOptions, "config" | "audit" | "logger"> {
  readonly source: Pick<NetworkSource, "identity" | "snapshot" | "egress" | "tunnels">;
}

/** Milliseconds until tunnels that could not be set up are tried again. */
const RETRY_MS = 5_000;

/** The tunnels in force. */
export class LiveTunnels {
  readonly #options: LiveTunnelsOptions;
  readonly #closing = new AbortController();
  #tunnels: IpTunnels | undefined;
  /** The pools that the tunnels were set up for, or are being set up for. */
  #pools: string;
  #replacing: Promise<void> | undefined;
  #problem: string | undefined;

  /** Sets tunnels up; rejects with an error that says what is missing. */
  static async start(options: LiveTunnelsOptions): Promise<LiveTunnels> {
    const { tunnels: controller } = options.source;
    const tunnels = await startTunnels(options, controller);
    return new LiveTunnels(options, { tunnels, pools: poolsText(controller) });
  }

  private constructor(
    options: LiveTunnelsOptions,
    { tunnels, pools }: { readonly tunnels: IpTunnels; readonly pools: string },
  ) {
    this.#options = options;
    this.#tunnels = tunnels;
    this.#pools = pools;
    // What changed while they were set up.
    this.egressChanged();
  }

  /** Why tunnels carry nothing, for readiness; undefined while they do. */
  get problem(): string | undefined {
    return this.#problem ?? this.#tunnels?.problem;
  }

  /** Serves a connect-ip request until it ends; returns why not, without an answer, when it may not be served. */
  serve(
    request: ServerRequest,
    wish: Parameters<IpTunnels["serve"]>[1],
  ): Promise<Refusal | undefined> {
    return this.#tunnels?.serve(request, wish) ?? Promise.resolve(REFUSALS.noTunnelsYet);
  }

  /** Attributes or rules changed. */
  policyChanged(): void {
    this.#tunnels?.policyChanged();
  }

  /** The source stated other egress rules, or other pools. */
  egressChanged(): void {
    const { source } = this.#options;
    if (poolsText(source.tunnels) === this.#pools) return this.#tunnels?.egressChanged(source.egress);
    this.#options.logger.info("tunnel_pools_changed", { pools: poolsText(source.tunnels) });
    this.#replacing ??= this.#replace().finally(() => this.#replacing = undefined);
  }

  /** An identity's addresses are no longer its own. */
  released(identity: string): void {
    this.#tunnels?.released(identity);
  }

  /** The controller is there again. */
  connected(): void {
    this.#tunnels?.connected();
  }

  /** Reads the egress policy again. */
  async reload(): Promise<void> {
    await this.#tunnels?.reload();
  }

  /** Ends every tunnel and takes back what was set up. Idempotent. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#replacing;
    await this.#tunnels?.close();
  }

  /** Clients lose their tunnels, and get addresses of the new pools when they come back. */
  async #replace(): Promise<void> {
    const { source, logger } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const { tunnels: controller } = source;
      const pools = poolsText(controller);
      if (this.#tunnels !== undefined && pools === this.#pools) return;
      const old = this.#tunnels;
      this.#tunnels = undefined;
      this.#pools = pools;
      await old?.close();
      try {
        this.#tunnels = await startTunnels(this.#options, controller);
        this.#problem = undefined;
        // What changed while they were set up.
        this.#tunnels.egressChanged(source.egress);
        this.#tunnels.policyChanged();
      } catch (error) {
        this.#problem = "the tunnels could not be set up for the network's pools";
        logger.error("tunnels_not_started", { pools, detail: errorMessage(error) });
        await sleep(RETRY_MS, { signal }).catch(() => undefined);
      }
    }
  }
}

function startTunnels(
  { source, ...options }: LiveTunnelsOptions,
  controller: TunnelController | undefined,
): Promise<IpTunnels> {
  return IpTunnels.start({
    ...options,
    trustDomain: source.identity.id.trustDomain,
    policy: () => source.snapshot,
    ...(controller === undefined ? {} : { controller }),
  });
}

function poolsText(controller: TunnelController | undefined): string {
  if (controller === undefined) return "";
  const { ipv4, ipv6 } = controller.pools;
  return [ipv4, ipv6].filter((pool) => pool !== null).map(formatPrefix).join(" ");
}
