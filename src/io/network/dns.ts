/**
 * Names are asked of the tunnel's servers while it is up: by systemd-resolved where this machine uses it, otherwise by
 * a resolv.conf of ours in place of the one that was there.
 */

import type { IpAddress } from "../../base/ip.ts";
import { checkInterfaceName } from "./interface_name.ts";
import type { NetworkContext } from "./context.ts";
import { NetworkManagerDns } from "./network_manager.ts";
import { asksResolved, renderResolvConf } from "./resolv_conf.ts";
import { ResolvedServers } from "./resolved.ts";
import { ResolverFile } from "./resolver_file.ts";
import { ResolverLayers } from "./resolver_layers.ts";
import { Serial } from "./serial.ts";

/** Whose resolver, and where its file lies. */
export interface TunnelDnsOptions {
  readonly interface: string;
  /** Default /etc/resolv.conf. */
  readonly path?: string;
  /** Who else of this process may want the resolver. */
  readonly layers?: ResolverLayers;
}

/** The resolver set-up of one tunnel interface. */
export class TunnelDns implements AsyncDisposable {
  readonly #context: NetworkContext;
  readonly #file: ResolverFile;
  readonly #resolved: ResolvedServers;
  readonly #networkManager: NetworkManagerDns;
  readonly #layers: ResolverLayers;
  readonly #serial = new Serial();

  constructor(options: TunnelDnsOptions, context: NetworkContext) {
    const { interface: name, path = "/etc/resolv.conf", layers = new ResolverLayers() } = options;
    this.#context = context;
    this.#file = new ResolverFile({ path, setting: "tunnel.dns" }, context);
    this.#resolved = new ResolvedServers(checkInterfaceName(name), context);
    this.#networkManager = new NetworkManagerDns({ interface: name }, context);
    this.#layers = layers;
  }

  /** Has names asked of `servers` only; none: as before us. */
  apply(servers: readonly IpAddress[]): Promise<void> {
    return this.#serial.run(async () => {
      if (servers.length === 0) return await this.#undo();
      const kind = this.#context.journal.data.resolver?.kind;
      const wantsResolved = kind === undefined
        ? asksResolved(await this.#file.read() ?? "")
        : kind === "resolved";
      if (wantsResolved && await this.#resolved.apply({ servers, domains: ["."] })) return;
      const text = renderResolvConf(servers, this.#context.journal.lockFile);
      await this.#layers.set(this, {
        kind: "tunnel",
        servers,
        apply: () => this.#file.install(text),
        remove: () => this.#restore(),
      });
    });
  }

  /** Has names asked as before us; also puts back what a killed process left. */
  close(): Promise<void> {
    return this.#serial.run(() => this.#undo());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #undo(): Promise<void> {
    await this.#layers.set(this, undefined);
    const { journal } = this.#context;
    if (journal.data.resolver?.kind === "resolved") {
      await this.#resolved.revert();
      await journal.update({ resolver: undefined });
    } else await this.#restore();
  }

  /** Puts back the file, and what this interface's services left when they were killed. */
  async #restore(): Promise<void> {
    await this.#networkManager.remove();
    await this.#file.restore();
    await this.#context.journal.update({ resolver: undefined });
  }
}
