/** The ways to have this machine ask us for names, and the way back from each. */

import { checkInterfaceName } from "./interface_name.ts";
import type { NetworkContext } from "./context.ts";
import { NetworkManagerDns } from "./network_manager.ts";
import { ResolvedServers } from "./resolved.ts";
import { ResolverFile } from "./resolver_file.ts";
import { type ResolverLayer, ResolverLayers } from "./resolver_layers.ts";

/** For whom, and where the machine's files lie. */
export interface MachineResolverOptions {
  readonly interface: string;
  /** The setting that would keep us away from the resolver, for errors. */
  readonly setting: string;
  /** Default /etc/resolv.conf. */
  readonly path?: string;
  /** Default /run/NetworkManager/conf.d. */
  readonly networkManagerFolder?: string;
  /** Who else of this process may want the resolver. */
  readonly layers?: ResolverLayers;
}

/** This machine's resolver, as one interface of ours uses it. */
export class MachineResolver {
  readonly file: ResolverFile;
  readonly resolved: ResolvedServers;
  readonly networkManager: NetworkManagerDns;
  readonly layers: ResolverLayers;
  readonly #context: NetworkContext;

  constructor(options: MachineResolverOptions, context: NetworkContext) {
    const { interface: name, path = "/etc/resolv.conf", networkManagerFolder: folder, setting } = options;
    this.file = new ResolverFile({ path, setting }, context);
    this.resolved = new ResolvedServers(checkInterfaceName(name), context);
    this.networkManager = new NetworkManagerDns(
      { interface: name, ...(folder !== undefined && { folder }) },
      context,
    );
    this.layers = options.layers ?? new ResolverLayers();
    this.#context = context;
  }

  /** Claims the resolver for this interface where it is one for all names. */
  claim(layer: ResolverLayer): Promise<void> {
    return this.layers.set(this, layer);
  }

  /** Gives the claim up, and puts back what was there before, also what a killed process has put there. */
  async release(): Promise<void> {
    await this.layers.set(this, undefined);
    const { journal } = this.#context;
    if (journal.data.resolver?.kind !== "resolved") return await this.restore();
    await this.resolved.revert();
    await journal.update({ resolver: undefined });
  }

  /** Puts back the file, and what NetworkManager was told. */
  async restore(): Promise<void> {
    await this.networkManager.remove();
    await this.file.restore();
    await this.#context.journal.update({ resolver: undefined });
  }
}
