/**
 * The services' resolver becomes this machine's: for their domains only where systemd-resolved knows such a thing, else
 * for all names, of which it asks the servers that were there before what is none of its own.
 */

import { sleep } from "../../base/async.ts";
import { formatIp, type IpAddress } from "../../base/ip.ts";
import type { NetworkContext } from "./context.ts";
import { MachineResolver, type MachineResolverOptions } from "./machine_resolver.ts";
import {
  asksResolved,
  isNetworkManagers,
  readResolvConf,
  renderResolvConf,
  type ResolverSettings,
} from "./resolv_conf.ts";
import { ResolverFile } from "./resolver_file.ts";
import { Serial } from "./serial.ts";

/** Whose resolver, and where the machine's files lie. */
export interface ServiceDnsOptions extends Omit<MachineResolverOptions, "setting"> {
  /** The servers that systemd-resolved asks; default /run/systemd/resolve/resolv.conf. */
  readonly resolvedPath?: string;
}

/** The resolver, and what it is to be asked. */
export interface ServiceDnsPlan {
  /** Where it answers; nowhere: everything as before us. */
  readonly servers: readonly IpAddress[];
  /** Its domains, the most important first. */
  readonly domains: readonly string[];
}

/** Who has the names asked of us. */
export type ServiceDnsMode = "resolved" | "networkmanager" | "file";

const SETTING = "services.dns";
/** Domains that systemd-resolved takes for one interface. */
const MAX_RESOLVED_DOMAINS = 256;
/** Milliseconds for which the servers of others are believed. */
const UPSTREAMS_MS = 5_000;
/** How often, and how many milliseconds apart, to look whether NetworkManager has written our servers. */
const LOOKS = 20;
const LOOK_MS = 100;

const NONE: ResolverSettings = { servers: [], search: [], options: [] };

/** The resolver set-up of one interface that captures services. */
export class ServiceDns implements AsyncDisposable {
  readonly #options: ServiceDnsOptions;
  readonly #context: NetworkContext;
  readonly #machine: MachineResolver;
  readonly #serial = new Serial();
  #mode: ServiceDnsMode | undefined;
  /** What resolv.conf said before us. */
  #before = NONE;
  #own: ReadonlySet<string> = new Set();
  #upstreams: { readonly at: number; readonly servers: readonly IpAddress[] } | undefined;

  constructor(options: ServiceDnsOptions, context: NetworkContext) {
    this.#options = options;
    this.#context = context;
    this.#machine = new MachineResolver({ ...options, setting: SETTING }, context);
  }

  /** Who has names asked of us at present. */
  get mode(): ServiceDnsMode | undefined {
    return this.#mode;
  }

  /** Domains that programs try behind names, as resolv.conf says. */
  get search(): readonly string[] {
    return this.#before.search;
  }

  /** Has the plan's domains asked of its servers. To be called again when the machine's network has changed. */
  apply(plan: ServiceDnsPlan): Promise<void> {
    return this.#serial.run(async () => {
      const { servers } = plan;
      if (servers.length === 0) return await this.#undo();
      this.#own = new Set(servers.map(formatIp));
      this.#upstreams = undefined;
      if (this.#mode === "resolved" || (this.#mode === undefined && await this.#goesToResolved())) {
        const domains = this.#domainsOf(plan);
        if (await this.#machine.resolved.apply({ servers, domains })) {
          this.#mode = "resolved";
          return;
        }
        this.#mode = undefined;
      }
      await this.#machine.claim({
        kind: "services",
        servers,
        apply: () => this.#applyWhole(servers),
        remove: () => this.#restore(),
      });
    });
  }

  /** The servers that know all other names: those of a tunnel of ours, or those that were there before. */
  async upstreams(): Promise<readonly IpAddress[]> {
    // Those of a tunnel count from the moment that it has them: nothing is to be asked beside it.
    const tunnel = this.#mode === "resolved" ? [] : this.#machine.layers.tunnelServers();
    if (tunnel.length > 0) return this.#notOwn(tunnel);
    const now = Date.now();
    const known = this.#upstreams;
    if (known !== undefined && Math.abs(now - known.at) < UPSTREAMS_MS) return known.servers;
    const servers = this.#notOwn(await this.#findUpstreams());
    this.#upstreams = { at: now, servers };
    return servers;
  }

  /** Has names asked as before us; also puts back what a killed process left. */
  close(): Promise<void> {
    return this.#serial.run(() => this.#undo());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #goesToResolved(): Promise<boolean> {
    return asksResolved(await this.#machine.file.read() ?? "");
  }

  /** Every name is asked of us from now on. */
  async #applyWhole(servers: readonly IpAddress[]): Promise<void> {
    const text = await this.#machine.file.read();
    if (this.#mode === undefined) this.#before = readResolvConf(text ?? "");
    const isManaged = this.#mode === "networkmanager" ||
      (this.#mode === undefined && isNetworkManagers(text ?? ""));
    if (isManaged && await this.#machine.networkManager.apply({ ...this.#before, servers })) {
      if (await this.#isWritten(servers)) {
        this.#mode = "networkmanager";
        return;
      }
      // It leaves the file to others, or has it ask a resolver of its own.
      await this.#machine.networkManager.remove();
      this.#context.logger.warn("network_manager_ignores_us", {});
    }
    const now = await this.#machine.file.read();
    const found = readResolvConf(now ?? "");
    // Another file than ours, unless it is what NetworkManager left of us: it came with another network.
    if (
      !this.#machine.file.isOurs(now) && found.servers.some((address) => !this.#own.has(formatIp(address)))
    ) {
      this.#before = found;
    }
    await this.#machine.file.install(renderResolvConf(servers, this.#context.journal.lockFile, this.#before));
    this.#mode = "file";
  }

  async #isWritten(servers: readonly IpAddress[]): Promise<boolean> {
    const first = formatIp(servers[0]!);
    for (let look = 0; look < LOOKS; look++) {
      const settings = readResolvConf(await this.#machine.file.read() ?? "");
      if (settings.servers.some((address) => formatIp(address) === first)) return true;
      await sleep(LOOK_MS);
    }
    return false;
  }

  #notOwn(servers: readonly IpAddress[]): readonly IpAddress[] {
    return servers.filter((address) => !this.#own.has(formatIp(address)));
  }

  async #findUpstreams(): Promise<readonly IpAddress[]> {
    const behindResolved = async () => {
      const { resolvedPath = "/run/systemd/resolve/resolv.conf" } = this.#options;
      const file = new ResolverFile({ path: resolvedPath, setting: SETTING }, this.#context);
      return readResolvConf(await file.read() ?? "").servers;
    };
    if (this.#mode === "resolved") return await behindResolved();
    const { servers } = this.#before;
    if (this.#mode === "networkmanager") {
      const live = await this.#machine.networkManager.servers();
      return live.length > 0 ? live : servers;
    }
    // systemd-resolved would read our file, and ask us.
    const stub = servers.some((address) => /^127\.0\.0\.5[34]$/.test(formatIp(address)));
    return stub ? await behindResolved() : servers;
  }

  /** As many as systemd-resolved takes, without those that others hold. */
  #domainsOf({ domains }: ServiceDnsPlan): readonly string[] {
    const kept = new Set(domains);
    const least = domains.filter((domain) => !hasParent(domain, kept));
    if (least.length > MAX_RESOLVED_DOMAINS) {
      const left = least.length - MAX_RESOLVED_DOMAINS;
      this.#context.logger.warn("network_domains_left_out", { count: left });
    }
    return least.slice(0, MAX_RESOLVED_DOMAINS);
  }

  async #undo(): Promise<void> {
    await this.#machine.release();
    this.#mode = undefined;
  }

  async #restore(): Promise<void> {
    await this.#machine.restore();
    this.#mode = undefined;
  }
}

/** Whether a domain lies below another of the set. */
function hasParent(domain: string, domains: ReadonlySet<string>): boolean {
  for (let dot = domain.indexOf("."); dot >= 0; dot = domain.indexOf(".", dot + 1)) {
    if (domains.has(domain.slice(dot + 1))) return true;
  }
  return false;
}
