/**
 * Capture by a network interface: the services' virtual addresses, and the prefixes they intercept, lead to this agent as
 * long as it runs. Follows the list of services and the machine's network.
 */

import { errorMessage, GinnelError } from "../../../base/errors.ts";
import { formatIp, formatPrefix, type IpAddress } from "../../../base/ip.ts";
import type { HostPort } from "../../../base/address.ts";
import type { Logger } from "../../../base/log.ts";
import type { ServiceCatalogue } from "../../../core/service/catalogue.ts";
import type { CaptureCounts } from "../../../dataplane/capture/capture.ts";
import { CaptureAddresses } from "../../../dataplane/capture/capture_addresses.ts";
import type { CapturePorts, CaptureRefusal } from "../../../dataplane/capture/capture_ports.ts";
import { ChangeWatch } from "../../../io/network/change_watch.ts";
import { HostNetwork, type HostNetworkOptions } from "../../../io/network/host_network.ts";
import type { ServiceDns } from "../../../io/network/service_dns.ts";
import { checkTun } from "../../../io/tun/device.ts";
import { flowFailure } from "../local_flow.ts";
import { RelayAddresses } from "../tunnel/relay_addresses.ts";
import { CaptureSetup } from "./capture_setup.ts";

/** What capture needs of its agent. */
export interface ServiceCaptureOptions {
  readonly config: { readonly interface: string };
  readonly allowRemoteClients: boolean;
  /** The services, with this machine's pools; undefined while nobody has told. Later ones come by `update`. */
  readonly catalogue: ServiceCatalogue | undefined;
  /** Where flows go. */
  readonly ports: Omit<CapturePorts, "refusalOf">;
  /** Whom capture must never swallow. */
  readonly relays: () => readonly HostPort[];
  /** The machine's own name servers, which stay outside too. */
  readonly nameServers?: () => readonly IpAddress[];
  readonly logger: Logger;
  /** Set up, or not any more, with other addresses, or something else in the way. */
  readonly onChange?: () => void;
  /** How to reach the kernel; default the real one. */
  readonly host?: Omit<HostNetworkOptions, "logger">;
}

/** What status tells of capture. */
export interface CaptureStatus extends Partial<CaptureCounts> {
  readonly interface: string;
  readonly isUp: boolean;
  /** Prefixes of virtual addresses, and the resolver's address, where it is set up. */
  readonly pools?: readonly string[];
  readonly resolver?: readonly string[];
  /** What is in the way. */
  readonly problem?: string;
  readonly hint?: string;
}

/** Milliseconds between looks at the machine's network. */
const TICK = 1_000;

/** Ticks between attempts while there is no set-up though there should be. */
const RETRY_TICKS = 5;

/** The capture of one agent. */
export class ServiceCapture {
  readonly #options: ServiceCaptureOptions;
  readonly #network: HostNetwork;
  readonly #relays: RelayAddresses;
  readonly #changes: ChangeWatch;
  readonly #timer: ReturnType<typeof setInterval>;
  #catalogue: ServiceCatalogue | undefined;
  #setup: CaptureSetup | undefined;
  #problem: GinnelError | undefined;
  #applying: Promise<void> = Promise.resolve();
  #isFollowing = false;
  #ticks = 0;
  #closing: Promise<void> | undefined;

  /** Takes the interface and sets up what is known so far; rejects with an error that says what is missing. */
  static async start(options: ServiceCaptureOptions): Promise<ServiceCapture> {
    const { config, logger, host } = options;
    checkTun(config.interface);
    const network = await HostNetwork.open(config.interface, { ...host, logger });
    const capture = new ServiceCapture(options, network);
    try {
      await capture.#apply();
    } catch (error) {
      await capture.close();
      throw error;
    }
    return capture;
  }

  private constructor(options: ServiceCaptureOptions, network: HostNetwork) {
    this.#options = options;
    this.#network = network;
    this.#catalogue = options.catalogue;
    this.#relays = new RelayAddresses(options.relays);
    this.#changes = new ChangeWatch({ logger: options.logger });
    this.#timer = setInterval(() => this.#tick(), TICK);
  }

  /** What there is now. */
  get status(): CaptureStatus {
    const setup = this.#setup;
    const problem = this.#problem;
    return {
      interface: this.#network.name,
      isUp: setup !== undefined,
      ...(setup !== undefined && {
        ...setup.counts,
        pools: [setup.pools.ipv4, setup.pools.ipv6].map(formatPrefix),
        resolver: this.resolver.map(formatIp),
      }),
      ...(problem !== undefined && {
        problem: problem.message,
        ...(problem.hint !== undefined && { hint: problem.hint }),
      }),
    };
  }

  /** Where the resolver answers; nowhere while nothing is set up. */
  get resolver(): readonly IpAddress[] {
    if (this.#setup === undefined) return [];
    const { resolver } = new CaptureAddresses(this.#setup.pools);
    return [resolver[4].address, resolver[6].address];
  }

  /** How this machine is made to ask the resolver; nothing is before somebody applies it. */
  get dns(): ServiceDns {
    return this.#network.serviceDns;
  }

  /** Captures these services from now on. What they lose ends with the right to dial them, not here. */
  update(catalogue: ServiceCatalogue | undefined): Promise<void> {
    this.#catalogue = catalogue;
    return this.#enqueue(() => this.#apply());
  }

  /** Other relays are listed: the way to them, too, stays outside. */
  relayListChanged(): Promise<void> {
    return this.#enqueue(() => this.#apply());
  }

  /** Ends every flow and takes back what was set up. Idempotent. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** One after the other; a failure is logged, and tried again. */
  #enqueue(step: () => Promise<void>): Promise<void> {
    return this.#applying = this.#applying.then(async () => {
      if (this.#closing === undefined) await step();
    }).catch((error) => this.#failed(error));
  }

  async #apply(): Promise<void> {
    const catalogue = this.#catalogue;
    if (catalogue === undefined) return;
    const { network: pools } = catalogue;
    const before = this.#setup;
    if (before !== undefined && !hasSamePools(before, pools)) {
      this.#setup = undefined;
      await before.close(new Error("Virtual addresses changed"));
    }
    const isNew = this.#setup === undefined;
    const setup = this.#setup ?? await this.#start(pools);
    await this.#relays.refresh();
    const nameServers = this.#options.nameServers?.() ?? [];
    await setup.follow();
    await setup.lead(catalogue, [...this.#relays.endpoints().map(({ address }) => address), ...nameServers]);
    if (!isNew) return;
    this.#problem = undefined;
    this.#options.logger.info("capture_up", {
      interface: this.#network.name,
      pools: [pools.ipv4, pools.ipv6].map(formatPrefix),
    });
    this.#options.onChange?.();
  }

  async #start(pools: ServiceCatalogue["network"]): Promise<CaptureSetup> {
    const { ports, allowRemoteClients, logger } = this.#options;
    const setup: CaptureSetup = await CaptureSetup.start(pools, {
      network: this.#network,
      ports: { ...ports, refusalOf: captureRefusal },
      allowRemoteClients,
      logger,
      onLost: () => this.#enqueue(() => this.#lost(setup)),
    });
    return this.#setup = setup;
  }

  async #lost(setup: CaptureSetup): Promise<void> {
    if (this.#setup !== setup) return;
    this.#setup = undefined;
    this.#options.onChange?.();
    await setup.close(new Error("The interface is gone"));
  }

  #tick(): void {
    const hasChanged = this.#changes.take();
    const isOverdue = this.#setup === undefined && this.#catalogue !== undefined &&
      ++this.#ticks % RETRY_TICKS === 0;
    if (!(hasChanged || isOverdue) || this.#isFollowing) return;
    this.#isFollowing = true;
    this.#enqueue(() => this.#setup === undefined ? this.#apply() : this.#follow(this.#setup))
      .finally(() => this.#isFollowing = false);
  }

  async #follow(setup: CaptureSetup): Promise<void> {
    const conflict = await setup.follow();
    await this.#network.routes.refreshPins();
    if (conflict !== undefined) this.#failed(conflict);
    else this.#problem = undefined;
  }

  /** Said once for each problem. */
  #failed(error: unknown): void {
    const problem = error instanceof GinnelError
      ? error
      : new GinnelError("ERR_CAPTURE", `Capture failed: ${errorMessage(error)}`, { cause: error });
    if (this.#problem?.message === problem.message) return;
    this.#problem = problem;
    this.#options.logger.warn("capture_problem", {
      interface: this.#network.name,
      detail: problem.message,
      ...(problem.hint !== undefined && { hint: problem.hint }),
    });
    this.#options.onChange?.();
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    this.#changes[Symbol.dispose]();
    await this.#applying;
    const setup = this.#setup;
    this.#setup = undefined;
    const { logger } = this.#options;
    const failed = (error: unknown) => logger.error("capture_network_left", { detail: errorMessage(error) });
    await setup?.close(new Error("agent stopped")).catch(failed);
    await this.#network.close().catch(failed);
  }
}

/** What a failed flow means for the program that wanted it. */
function captureRefusal(error: unknown): CaptureRefusal {
  const { status, error: kind } = flowFailure(error);
  if (status === 403 || status === 404) return "prohibited";
  return kind === "connection_refused" ? "refused" : "unreachable";
}

function hasSamePools({ pools }: CaptureSetup, { ipv4, ipv6 }: ServiceCatalogue["network"]): boolean {
  return formatPrefix(pools.ipv4) === formatPrefix(ipv4) && formatPrefix(pools.ipv6) === formatPrefix(ipv6);
}
