/**
 * Everything that is set up in the kernel around one tunnel interface, in one hand: what a killed process left is
 * undone first, and closing undoes the rest in the right order.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { CaptureGuard } from "./capture_guard.ts";
import { type Commands, systemCommands } from "./commands.ts";
import { TunnelDns } from "./dns.ts";
import { checkInterfaceName } from "./interface_name.ts";
import type { NetworkContext } from "./context.ts";
import { InterfaceSetup } from "./interface.ts";
import { NetworkJournal } from "./journal.ts";
import { KillSwitch } from "./kill_switch.ts";
import { type KernelFiles, SYSTEM_FILES } from "./libc.ts";
import { RelayNat } from "./nat.ts";
import { captureGuardTableName, killSwitchTableName, natTableName } from "./nft_text.ts";
import { removeTable, tableNames } from "./nft.ts";
import type { ResolverLayers } from "./resolver_layers.ts";
import type { RouteSiblings } from "./route_siblings.ts";
import { RouteTable } from "./routes.ts";
import { ServiceDns } from "./service_dns.ts";

/** How to reach the kernel; the defaults are the real one. */
export interface HostNetworkOptions {
  readonly logger: Logger;
  /** Whether a kill switch of a killed process stays in force until the new one replaces it; default false. */
  readonly keepKillSwitch?: boolean;
  /**
   * Whether NAT of a killed process stays in force until the new one replaces it; default false. Without it the kernel
   * resets the connections that go through it.
   */
  readonly keepNat?: boolean;
  readonly commands?: Commands;
  readonly files?: KernelFiles;
  /** Where the journal lies; default by `findStateDirectory`. */
  readonly directory?: string;
  /** Default /etc/resolv.conf. */
  readonly resolvConf?: string;
  /** Who else of this process may want the machine's resolver: the same for all its interfaces. */
  readonly resolverLayers?: ResolverLayers;
  /** The other interfaces of this process: the same for all of them. */
  readonly routeSiblings?: RouteSiblings;
}

/** What the interfaces of one process share. */
export type SharedNetwork = Pick<HostNetworkOptions, "resolverLayers" | "routeSiblings">;

/** The network around one tunnel interface. Its parts do nothing before they are asked to. */
export class HostNetwork implements AsyncDisposable {
  readonly name: string;
  readonly interface: InterfaceSetup;
  readonly routes: RouteTable;
  readonly nat: RelayNat;
  readonly killSwitch: KillSwitch;
  readonly captureGuard: CaptureGuard;
  readonly dns: TunnelDns;
  /** In place of `dns` where the interface captures services. */
  readonly serviceDns: ServiceDns;
  readonly #context: NetworkContext;
  #closing: Promise<void> | undefined;

  private constructor(
    name: string,
    context: NetworkContext,
    { resolvConf, resolverLayers, routeSiblings }: Pick<
      HostNetworkOptions,
      "resolvConf" | "resolverLayers" | "routeSiblings"
    >,
  ) {
    this.name = name;
    this.#context = context;
    this.interface = new InterfaceSetup(name, context);
    this.routes = new RouteTable(
      { interface: name, ...(routeSiblings !== undefined && { siblings: routeSiblings }) },
      context,
    );
    this.nat = new RelayNat({ interface: name }, context);
    this.killSwitch = new KillSwitch({ interface: name }, context);
    this.captureGuard = new CaptureGuard({ interface: name }, context);
    const resolver = {
      interface: name,
      ...(resolvConf !== undefined && { path: resolvConf }),
      ...(resolverLayers !== undefined && { layers: resolverLayers }),
    };
    this.dns = new TunnelDns(resolver, context);
    this.serviceDns = new ServiceDns(resolver, context);
  }

  /**
   * Becomes the only one to set up `name` and undoes what a killed process left there. Throws `ERR_NETWORK_IN_USE`
   * while another process has it.
   */
  static async open(name: string, options: HostNetworkOptions): Promise<HostNetwork> {
    checkInterfaceName(name);
    const { logger, files = SYSTEM_FILES, directory, keepKillSwitch = false, keepNat = false } = options;
    const kept = { killSwitch: keepKillSwitch, nat: keepNat };
    const place = directory === undefined ? {} : { directory };
    const journal = await NetworkJournal.open(name, { logger, files, ...place });
    try {
      const context = { logger, files, journal, commands: options.commands ?? systemCommands() };
      const network = new HostNetwork(name, context, options);
      if (Object.keys(journal.data).length > 0) logger.info("network_leftovers", { interface: name });
      // A leftover that resists must not keep the node from starting: its journal stays for the next time.
      await network.#undo(kept).catch(() => undefined);
      await network.#removeStrayTables(kept);
      return network;
    } catch (error) {
      await journal[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * Puts back what a killed process left of `name` at the machine's resolver, and nothing else: a kill switch, too, waits
   * for its own next start. Throws `ERR_NETWORK_IN_USE` while another process has the interface.
   */
  static async restoreResolver(name: string, options: HostNetworkOptions): Promise<void> {
    const { logger, files = SYSTEM_FILES, directory } = options;
    const place = directory === undefined ? {} : { directory };
    await using journal = await NetworkJournal.open(checkInterfaceName(name), { logger, files, ...place });
    const context = { logger, files, journal, commands: options.commands ?? systemCommands() };
    const network = new HostNetwork(name, context, options);
    await network.serviceDns.close();
    await network.dns.close();
  }

  /** Undoes everything and lets go of the interface. What could not be undone is left for the next start. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      await this.#undo({ killSwitch: false, nat: false });
    } finally {
      await this.#context.journal[Symbol.asyncDispose]();
    }
  }

  /** Every part is tried, whatever becomes of the others; the first failure is told at the end. */
  async #undo(kept: Kept): Promise<void> {
    const parts: (() => Promise<void>)[] = [
      () => this.serviceDns.close(),
      () => this.dns.close(),
      () => this.routes.close(),
      ...(kept.killSwitch ? [] : [() => this.killSwitch.close()]),
      ...(kept.nat ? [] : [() => this.nat.close()]),
      () => this.captureGuard.close(),
      () => this.interface.close(),
    ];
    const failures: unknown[] = [];
    for (const part of parts) {
      await part().catch((error) => {
        failures.push(error);
        this.#context.logger.error("network_undo_failed", {
          interface: this.name,
          reason: errorMessage(error),
        });
      });
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Tables whose journal is lost: service managers empty a service's folder when it dies. */
  async #removeStrayTables(kept: Kept): Promise<void> {
    const { commands, logger } = this.#context;
    const options = { commands, purpose: "look for rules left by a killed process" };
    let present: string[];
    try {
      present = await tableNames(options);
    } catch (error) {
      // Without nft there are no tables either; who needs it will hear so.
      logger.debug("network_tables_unknown", { reason: errorMessage(error) });
      return;
    }
    const strays = [
      ...(kept.nat ? [] : [natTableName(this.name)]),
      ...(kept.killSwitch ? [] : [killSwitchTableName(this.name)]),
      captureGuardTableName(this.name),
    ];
    for (const name of strays.filter((stray) => present.includes(stray))) await removeTable(name, options);
  }
}

/** What of a killed process stays in force. */
interface Kept {
  readonly killSwitch: boolean;
  readonly nat: boolean;
}
