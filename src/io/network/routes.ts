/**
 * The routes of a tunnel: the wanted prefixes lead into it, and its relays stay outside. Every call compares with
 * the kernel and executes only the difference, so a reconnect touches nothing.
 */

import { formatIp, formatPrefix, type IpAddress, type IpPrefix, parseIp } from "../../base/ip.ts";
import { runBatch } from "./batch.ts";
import { runChecked } from "./commands.ts";
import { checkInterfaceName } from "./interface_name.ts";
import type { NetworkContext } from "./context.ts";
import { type KernelRoute, readRoutes } from "./ip_json.ts";
import { ipv6Usable } from "./ipv6.ts";
import { coveredBy, isHostRoute, outsideRoute, type Pin, planRoutes, type RouteWish } from "./route_plan.ts";
import { RouteSiblings } from "./route_siblings.ts";

/** What became of a wish. */
export interface AppliedRoutes {
  /** Wanted prefixes that stay outside the tunnel: another interface has exactly them. */
  readonly conflicts: readonly IpPrefix[];
}

/** The routes through one interface, and the host routes around it. */
export class RouteTable implements AsyncDisposable {
  readonly #name: string;
  readonly #context: NetworkContext;
  readonly #siblings: RouteSiblings;
  #wanted: readonly IpPrefix[] = [];
  #pinned: readonly IpAddress[] = [];
  #reported = "";

  constructor(
    { interface: name, siblings = new RouteSiblings() }: {
      readonly interface: string;
      readonly siblings?: RouteSiblings;
    },
    context: NetworkContext,
  ) {
    this.#name = checkInterfaceName(name);
    this.#siblings = siblings;
    this.#context = context;
  }

  /**
   * Leads `wanted` into the tunnel and nothing else any more; those of the `pinned` addresses that this would catch
   * keep the way they have outside.
   */
  apply(wanted: readonly IpPrefix[], pinned: readonly IpAddress[]): Promise<AppliedRoutes> {
    return this.#siblings.run(() => {
      [this.#wanted, this.#pinned] = [wanted, pinned];
      return this.#execute();
    });
  }

  /** Finds the way outside anew: after a network change, and before each attempt to reconnect. */
  refreshPins(): Promise<AppliedRoutes> {
    return this.#siblings.run(() => this.#execute());
  }

  /** All routes of this machine, of all tables, its own addresses among them. */
  async present(): Promise<KernelRoute[]> {
    const ipv6 = ipv6Usable(this.#context.files, "all");
    return [...await this.#read(4), ...(ipv6 ? await this.#read(6) : [])];
  }

  /** Removes every route of ours. */
  close(): Promise<void> {
    return this.#siblings.run(async () => {
      [this.#wanted, this.#pinned] = [[], []];
      // Nothing was ever set up: there is nothing to look for.
      if (this.#context.journal.data.pins === undefined) return;
      await this.#execute();
      await this.#context.journal.update({ pins: undefined });
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #execute(): Promise<AppliedRoutes> {
    const { commands, logger, journal } = this.#context;
    const { files } = this.#context;
    const ipv6 = ipv6Usable(files, this.#name);
    const wanted = this.#wanted.filter(({ version }) => version === 4 || ipv6);
    const covered = coveredBy(wanted, this.#pinned);
    const present = await this.present();
    const pinnedBefore = (journal.data.pins ?? []).map(parseIp).filter((address) => address !== undefined);
    const siblings = this.#siblings.of(this.#name);
    const table = { interfaceName: this.#name, present, pinnedBefore, siblings };
    const pins = this.#pins(covered, table);
    const plan = planRoutes({ ...table, wanted, pins });
    const names = new Set([...pins.map(({ address }) => address), ...pinnedBefore].map(formatIp));
    await journal.update({ pins: [...names] });
    this.#siblings.set(this.#name, wanted.length > 0 ? pins.map(({ address }) => address) : undefined);
    await runBatch(plan.steps, { commands, logger, purpose: `route through interface ${this.#name}` });
    await journal.update({ pins: pins.map(({ address }) => formatIp(address)) });
    this.#report({ ipv6, conflicts: plan.conflicts });
    return { conflicts: plan.conflicts };
  }

  #pins(
    addresses: readonly IpAddress[],
    table: Omit<RouteWish, "wanted" | "pins">,
  ): Pin[] {
    const { logger } = this.#context;
    const pins: Pin[] = [];
    for (const address of addresses) {
      const route = outsideRoute(address, table);
      // This machine's own, or pinned by whoever runs it.
      if (route?.type === "local" || (route !== undefined && isHostRoute(route))) continue;
      const hop = route?.hop;
      if (hop === undefined) logger.warn("network_relay_unreachable", { interface: this.#name });
      pins.push(hop === undefined ? { address } : { address, hop });
    }
    return pins;
  }

  async #read(version: 4 | 6): Promise<KernelRoute[]> {
    const text = await runChecked(this.#context.commands, {
      program: "ip",
      args: [`-${version}`, "-json", "-details", "route", "show", "table", "all"],
      purpose: "read the routes",
    });
    return readRoutes(text, version);
  }

  /** Says once what stays outside the tunnel. */
  #report({ ipv6, conflicts }: { readonly ipv6: boolean; readonly conflicts: readonly IpPrefix[] }): void {
    const outside = conflicts.map(formatPrefix);
    const skipped = ipv6 ? 0 : this.#wanted.filter(({ version }) => version === 6).length;
    const report = `${outside.join()} ${skipped}`;
    if (report === this.#reported) return;
    this.#reported = report;
    const { logger } = this.#context;
    if (skipped > 0) logger.warn("network_ipv6_off", { interface: this.#name, routes: skipped });
    if (outside.length > 0) {
      logger.warn("network_route_conflicts", { interface: this.#name, count: outside.length });
      logger.debug("network_route_conflict_list", { interface: this.#name, prefixes: outside });
    }
  }
}
