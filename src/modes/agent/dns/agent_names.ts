/**
 * Services' names on this machine: the resolver's answers, and the machine's own resolver made to ask for them, as the
 * list of services and the machine's network change.
 */

import { errorMessage, GinnelError } from "../../../base/errors.ts";
import { formatIp, type IpAddress } from "../../../base/ip.ts";
import type { Logger } from "../../../base/log.ts";
import { ServiceZone } from "../../../core/dns/service_zone.ts";
import type { ServiceCatalogue } from "../../../core/service/catalogue.ts";
import type { NameAddresses } from "../../../core/service/name_addresses.ts";
import { DnsForwarder } from "../../../io/dns/forwarder.ts";
import type { ServiceDns, ServiceDnsMode } from "../../../io/network/service_dns.ts";
import { type DnsCounts, DnsService } from "./dns_service.ts";

/** Where the services come from. */
export interface NamedServices {
  readonly current: ServiceCatalogue | undefined;
  readonly isValid: boolean;
  onChange(listener: () => void): () => void;
}

/** Who brings queries to the resolver, and how the machine is made to ask it. */
export interface ResolverPlace {
  /** Where queries are caught; nowhere while nothing is set up. */
  readonly resolver: readonly IpAddress[];
  readonly dns: Pick<ServiceDns, "apply" | "close" | "upstreams" | "mode" | "search">;
}

/** What names need. */
export interface AgentNamesOptions {
  readonly services: NamedServices;
  /** Shared with whoever must know which name an address was invented for. */
  readonly addresses: NameAddresses;
  /** `serve`: the machine's own resolver stays as it is, and names that are no service's are refused. */
  readonly dns: true | "serve";
  readonly logger: Logger;
}

/** What status tells. */
export interface AgentNamesStatus {
  readonly zone: string;
  /** Where the resolver answers. */
  readonly servers: readonly string[];
  /** Who on this machine asks it; absent: nobody by our doing. */
  readonly mode?: ServiceDnsMode;
  readonly problem?: string;
  readonly hint?: string;
  readonly queries: Readonly<DnsCounts>;
}

/** The zone before any view says another. */
const DEFAULT_ZONE = "ginnel.internal";
/** Milliseconds between looks at whether the machine still asks us: DHCP clients write resolv.conf too. */
const LOOK_MS = 5_000;

/** The names of one agent's services. */
export class AgentNames {
  readonly #options: AgentNamesOptions;
  readonly #zone: ServiceZone;
  readonly #forwarder: DnsForwarder | undefined;
  readonly #service: DnsService;
  readonly #unfollow: () => void;
  #place: ResolverPlace | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #upstreams: readonly IpAddress[] = [];
  #problem: GinnelError | undefined;
  #settling: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(options: AgentNamesOptions) {
    const { services, addresses, dns, logger } = options;
    this.#options = options;
    this.#zone = new ServiceZone({ names: addresses, zone: DEFAULT_ZONE });
    this.#forwarder = dns === "serve" ? undefined : new DnsForwarder({
      servers: async () => {
        const servers = await this.#place?.dns.upstreams() ?? [];
        this.#upstreams = servers;
        return servers.map((address) => ({ address }));
      },
      own: () => this.#place?.resolver ?? [],
      zone: () => this.#zone.zone,
      logger,
    });
    this.#service = new DnsService({
      zone: this.#zone,
      ...(this.#forwarder !== undefined && { forwarder: this.#forwarder }),
    });
    this.#unfollow = services.onChange(() => this.#follow());
    this.#follow();
  }

  /** What is known now. */
  get status(): AgentNamesStatus {
    const place = this.#place;
    const problem = this.#problem ?? this.#loop();
    return {
      zone: this.#zone.zone,
      servers: (place?.resolver ?? []).map(formatIp),
      ...(place?.dns.mode !== undefined && { mode: place.dns.mode }),
      ...(problem !== undefined && {
        problem: problem.message,
        ...(problem.hint !== undefined && { hint: problem.hint }),
      }),
      queries: this.#service.counts,
    };
  }

  /** The name servers that were asked last for what is none of ours: the way to them must not lead into capture. */
  get nameServers(): readonly IpAddress[] {
    return this.#upstreams;
  }

  /** Answers a query; see `DnsService.handle`. */
  answer(query: Uint8Array, options: { readonly viaTcp: boolean }): Uint8Array | Promise<Uint8Array> {
    return this.#service.handle(query, options);
  }

  /** Queries are caught there from now on. */
  attach(place: ResolverPlace): Promise<void> {
    this.#place = place;
    this.#timer ??= setInterval(() => void this.refresh(), LOOK_MS);
    return this.refresh();
  }

  /** Where queries are caught, or the machine's network, has changed. Never rejects. */
  refresh(): Promise<void> {
    return this.#settling = this.#settling.then(async () => {
      const place = this.#place;
      if (place === undefined || this.#isClosed || this.#options.dns === "serve") return;
      try {
        await place.dns.apply({ servers: place.resolver, domains: this.#zone.domains() });
        this.#upstreams = await place.dns.upstreams();
        this.#problem = undefined;
        // What is searched may be known only now.
        this.#updateZone();
      } catch (error) {
        this.#failed(error);
      }
    });
  }

  /** The machine asks for names as before us. Before capture ends, so that no name is asked of nobody. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#unfollow();
    await this.#settling;
    try {
      await this.#place?.dns.close();
    } catch (error) {
      this.#failed(error);
    }
    this.#forwarder?.[Symbol.dispose]();
  }

  #follow(): void {
    this.#updateZone();
    void this.refresh();
  }

  #updateZone(): void {
    const { current: catalogue, isValid: valid } = this.#options.services;
    const search = (this.#place?.dns.search ?? []).map((domain) =>
      domain.toLowerCase().replace(/^\.|\.$/g, "")
    )
      .filter((domain) => domain !== "");
    if (catalogue !== undefined) this.#zone.update({ catalogue, valid, search });
  }

  /** Whether a server that this machine had before us would ask us again. */
  #loop(): GinnelError | undefined {
    const looping = this.#forwarder?.looping ?? new Set();
    const stubs = this.#upstreams.map(formatIp).filter((server) => looping.has(server));
    if (stubs.length === 0) return undefined;
    const names = stubs.length === this.#upstreams.length
      ? "names of others are not found"
      : "it is left out";
    return new GinnelError(
      "ERR_DNS_LOOP",
      `Name server ${stubs.join(", ")} asks this agent again: ${names}`,
      {
        hint: `Have it ask other servers; or set services.dns to "serve", and have it ask ${
          formatIp(this.#place!.resolver[0]!)
        } for ${this.#zone.zone} only`,
      },
    );
  }

  /** Said once for each problem. */
  #failed(error: unknown): void {
    const problem = error instanceof GinnelError
      ? error
      : new GinnelError("ERR_DNS", `Cannot set up names: ${errorMessage(error)}`, { cause: error });
    if (this.#problem?.message === problem.message) return;
    this.#problem = problem;
    this.#options.logger.warn("names_problem", {
      detail: problem.message,
      ...(problem.hint !== undefined && { hint: problem.hint }),
    });
  }
}
