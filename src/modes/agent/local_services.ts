/**
 * How services appear on this machine: caught by an interface and named by a resolver where that is allowed, on loopback
 * addresses where it is not.
 */

import type { HostPort } from "../../base/address.ts";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import type { IpAddress } from "../../base/ip.ts";
import type { Logger } from "../../base/log.ts";
import type { AgentServicesConfig } from "../../config/schema/agent.ts";
import { serviceNetworkSchema } from "../../config/schema/services.ts";
import type { SharedNetwork } from "../../io/network/host_network.ts";
import {
  ServiceCatalogue,
  type ServiceMatch,
  type ServiceMismatch,
  type ServiceQuestion,
} from "../../core/service/catalogue.ts";
import { NameAddresses } from "../../core/service/name_addresses.ts";
import { serviceNetworkOf, withLocalPools } from "../../core/service/service_network.ts";
import { virtualIndex } from "../../core/service/virtual_address.ts";
import type { PartStatus } from "./agent_status.ts";
import { AutoForward, type LocalPlace } from "./auto_forward.ts";
import { ServiceCapture } from "./capture/service_capture.ts";
import { AgentNames } from "./dns/agent_names.ts";
import type { LiveCatalogue } from "./live_catalogue.ts";
import type { ConnectDatagrams, ConnectFlow } from "./local_flow.ts";

/** What services on this machine need. */
export interface LocalServicesOptions {
  readonly config: AgentServicesConfig;
  readonly allowRemoteClients: boolean;
  readonly catalogue: LiveCatalogue;
  readonly connect: ConnectFlow;
  readonly connectDatagrams: ConnectDatagrams;
  /** The network's own trust domain. */
  readonly trustDomain: string;
  /** Whom capture must never swallow. */
  readonly relays: () => readonly HostPort[];
  /** What this agent's interfaces share. */
  readonly shared: SharedNetwork;
  readonly logger: Logger;
}

/** The services of one agent on its machine. */
export class LocalServices {
  readonly #options: LocalServicesOptions;
  readonly #addresses = new NameAddresses();
  readonly #unfollow: () => void;
  #capture: ServiceCapture | undefined;
  #names: AgentNames | undefined;
  #autoForward: AutoForward | undefined;
  /** Why nothing is captured, where `auto` found so. */
  #obstacle: GinnelError | undefined;
  #isClosed = false;

  private constructor(options: LocalServicesOptions) {
    this.#options = options;
    this.#unfollow = options.catalogue.onChange(() => this.#follow());
  }

  /** Sets up what the config asks for; rejects with what is missing for it. */
  static async start(options: LocalServicesOptions): Promise<LocalServices> {
    const services = new LocalServices(options);
    const { config: { capture, autoForward } } = options;
    try {
      if (capture !== false) await services.#startCapture();
      if (autoForward === true || (autoForward === "auto" && services.#capture === undefined)) {
        services.#startAutoForward();
      }
    } catch (error) {
      await services.close();
      throw error;
    }
    return services;
  }

  /** Where services are in 127.0.0.0/8. */
  places(): ReadonlyMap<string, LocalPlace> {
    return this.#autoForward?.places() ?? new Map();
  }

  /** The name that an address was invented for, if it was. */
  nameOf(address: IpAddress): string | undefined {
    const network = this.#options.catalogue.current?.network;
    const index = network && virtualIndex(network, address);
    return index === undefined ? undefined : this.#addresses.hostOf(index, Date.now());
  }

  /** How capture, names and loopback addresses are. */
  status(): Readonly<Record<string, PartStatus>> {
    return {
      capture: this.#captureStatus(),
      dns: this.#namesStatus(),
      autoForward: { state: this.#autoForward === undefined ? "off" : "on" },
    };
  }

  /** The name servers behind our own resolver; none where the machine's is as it was. */
  get nameServers(): readonly IpAddress[] {
    return this.#names?.nameServers ?? [];
  }

  /** The interfaces by which services are caught, if any are. */
  get interfaces(): readonly string[] {
    return this.#capture === undefined ? [] : [this.#options.config.interface];
  }

  /** The network lists other relays. */
  async relayListChanged(): Promise<void> {
    await this.#capture?.relayListChanged();
  }

  /** Gives back the machine's resolver, then what was captured. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unfollow();
    await this.#names?.close();
    await this.#capture?.close();
    await this.#autoForward?.close();
  }

  async #startCapture(): Promise<void> {
    const { config, catalogue, logger, allowRemoteClients, relays, connect, connectDatagrams } =
      this.#options;
    const names = config.dns === false
      ? undefined
      : new AgentNames({ services: catalogue, addresses: this.#addresses, dns: config.dns, logger });
    const known = catalogue.current;
    try {
      this.#capture = await ServiceCapture.start({
        config,
        allowRemoteClients,
        catalogue: known,
        ports: {
          match: (address, question) => this.#match(address, question),
          connect,
          connectDatagrams,
          answerDns: (query, options) => names?.answer(query, options) ?? NO_ANSWER,
        },
        relays,
        nameServers: () => names?.nameServers ?? [],
        host: this.#options.shared,
        logger,
        onChange: () => {
          void names?.refresh();
          this.#balance();
        },
      });
    } catch (error) {
      await names?.close();
      if (config.capture !== "auto" || !(error instanceof GinnelError)) throw error;
      this.#obstacle = error;
      logger.warn("capture_not_possible", { detail: error.message, hint: error.hint ?? "" });
      return;
    }
    this.#names = names;
    await names?.attach(this.#capture);
    // Services that came while the interface was opened: nobody listened yet. None did so far: until somebody tells how
    // services appear, names fail here, and none is asked of strangers.
    if (catalogue.current === undefined) void this.#capture.update(this.#presumed());
    else if (catalogue.current !== known) void this.#capture.update(catalogue.current);
  }

  /** No services, in the zone and pools that networks have unless their authority says otherwise. */
  #presumed(): ServiceCatalogue {
    const { config: { ipv4, ipv6 }, trustDomain } = this.#options;
    const network = serviceNetworkOf(serviceNetworkSchema.parse({}), trustDomain);
    return new ServiceCatalogue([], withLocalPools(network, { ipv4, ipv6 }));
  }

  /** With `auto`, services are on loopback addresses for as long as something keeps them from being captured. */
  #balance(): void {
    const { capture, autoForward } = this.#options.config;
    if (capture !== "auto" || autoForward !== "auto" || this.#isClosed) return;
    const { isUp = false, problem } = this.#capture?.status ?? {};
    if (isUp) {
      void this.#autoForward?.close();
      this.#autoForward = undefined;
    } else if (problem !== undefined && this.#autoForward === undefined) this.#startAutoForward();
  }

  #startAutoForward(): void {
    const { connect, connectDatagrams, logger } = this.#options;
    this.#autoForward = new AutoForward({ connect, connectDatagrams, logger });
    this.#follow();
  }

  #follow(): void {
    const { catalogue, logger } = this.#options;
    const services = catalogue.isValid ? catalogue.current?.services() : undefined;
    this.#autoForward?.update(services ?? []).catch((error) => {
      logger.error("auto_forward_failed", { detail: errorMessage(error) });
    });
    // Without a valid view the addresses stay ours: nothing meant for a service may take another way.
    void this.#capture?.update(catalogue.current);
  }

  /** Which service an address means: one of its own, one it intercepts, or that of a name it was invented for. */
  #match(address: IpAddress, question: ServiceQuestion): ServiceMatch | ServiceMismatch {
    const catalogue = this.#options.catalogue.current;
    if (catalogue === undefined) return "unknown";
    const host = this.nameOf(address);
    return host === undefined
      ? catalogue.matchAddress(address, question)
      : catalogue.matchHost(host, question);
  }

  #captureStatus(): PartStatus {
    const status = this.#capture?.status;
    if (status === undefined) {
      const { message, hint } = this.#obstacle ?? {};
      return { state: "off", ...(message !== undefined && { detail: message }), ...(hint && { hint }) };
    }
    const { problem, hint, isUp, pools = [] } = status;
    if (problem !== undefined) return { state: "failed", detail: problem, ...(hint && { hint }) };
    const detail = isUp ? `${status.interface}: ${pools.join(", ")}` : "waits for the list of services";
    return { state: "on", detail };
  }

  #namesStatus(): PartStatus {
    const status = this.#names?.status;
    if (status === undefined) return { state: "off" };
    const { zone, servers, mode = "nobody", problem, hint } = status;
    if (problem !== undefined) return { state: "failed", detail: problem, ...(hint && { hint }) };
    return {
      state: "on",
      detail: `${zone} at ${servers.join(", ") || "no address yet"}, asked by ${MODES[mode]}`,
    };
  }
}

const NO_ANSWER = new Uint8Array(0);

/** Who asks, in words. */
const MODES = {
  resolved: "systemd-resolved",
  networkmanager: "NetworkManager",
  file: "resolv.conf",
  nobody: "who is told to",
} as const;
