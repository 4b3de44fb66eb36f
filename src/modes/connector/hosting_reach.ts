/**
 * What of this connector's surroundings the network's administrators may lead flows to. A name is resolved once, its
 * addresses are checked, and those very addresses are dialled: who rules the name's DNS gains nothing.
 */

import { parseIp } from "../../base/ip.ts";
import { type AllowedDestination, DestinationList } from "../../core/service/destinations.ts";
import type { Host } from "../../core/service/host.ts";
import { hostScope } from "../../core/service/host_target.ts";
import type { PortRange } from "../../core/service/intercept.ts";
import { FlowRefusedError } from "../../dataplane/errors.ts";
import { resolveUpstream } from "../../io/tcp/resolve_upstream.ts";

/** Checks destinations against `hosting.allow`. */
export class HostingReach {
  readonly #allowed: DestinationList;

  readonly #resolve: (host: string) => Promise<readonly string[]>;

  /** `resolve` finds all addresses of a name; by default as the system does. */
  constructor(
    allowed: readonly AllowedDestination[],
    options: { readonly resolve?: (host: string) => Promise<readonly string[]> } = {},
  ) {
    this.#allowed = new DestinationList(allowed);
    this.#resolve = options.resolve ?? resolveUpstream;
  }

  /**
   * The addresses of a name or address that may be dialled, in the order to try; rejects with `FlowRefusedError` ("denied")
   * or, when the name has none, `DialError`.
   */
  async addresses(host: string, port: number): Promise<readonly string[]> {
    const addresses = parseIp(host) === undefined ? await this.#resolve(host) : [host];
    if (parseIp(host) === undefined && this.#allowed.allowsName(host, port)) return addresses;
    for (const text of addresses) {
      const address = parseIp(text);
      if (address === undefined || !this.#allowed.allowsAddress(address, port)) {
        throw new FlowRefusedError("denied", `hosting.allow does not let through ${host} on port ${port}`);
      }
    }
    return addresses;
  }

  /** Whether any flow of a config could be let through now; a fixed name is resolved for it, and may have no address. */
  async admits(host: Host): Promise<boolean> {
    const { addresses, ports } = hostScope(host);
    if (host.address === undefined) return this.#couldAllowAny(addresses, ports);
    const text = host.address;
    if (!this.#allowed.couldAllow(text, ports)) return false;
    if (!this.dependsOnDns(host)) return true;
    return (await this.#resolve(text)).every((address) => this.#allowed.couldAllow(address, ports));
  }

  /** Whether the answer of {@linkcode admits} hangs on what a name resolves to. */
  dependsOnDns(host: Host): boolean {
    const { address } = host;
    if (address === undefined || parseIp(address) !== undefined) return false;
    return !hostScope(host).ports.some(({ low, high }) =>
      this.#allowed.allowsNameWithin(address, { low, high })
    );
  }

  #couldAllowAny(addresses: readonly string[], ports: readonly PortRange[]): boolean {
    return addresses.some((address) => this.#allowed.couldAllow(address, ports));
  }
}
