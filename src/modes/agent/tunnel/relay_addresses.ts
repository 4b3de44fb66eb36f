/**
 * The addresses that must stay reachable outside the tunnel: those of the relays, and of the name servers that know them.
 */

import type { HostPort } from "../../../base/address.ts";
import { withDeadline } from "../../../base/async.ts";
import { formatIp, type IpAddress, parseIp } from "../../../base/ip.ts";
import { resolveHost } from "../../../io/system/resolve_host.ts";

/** An address and port outside the tunnel. */
export interface Endpoint {
  readonly address: IpAddress;
  readonly port: number;
}

/** Milliseconds that looking up one relay may take. */
const LOOKUP_TIMEOUT = 5_000;

const DNS_PORT = 53;

/** Remembers where relays are: a name that cannot be looked up now keeps the addresses it had. */
export class RelayAddresses {
  readonly #relays: () => readonly HostPort[];
  readonly #known = new Map<string, readonly IpAddress[]>();
  #nameServers: readonly IpAddress[] = [];

  /** `relays` tells where they listen now. */
  constructor(relays: () => readonly HostPort[]) {
    this.#relays = relays;
  }

  /** Looks every relay up. */
  async refresh(): Promise<void> {
    await Promise.all(
      this.#relays().map(async ({ hostname }) => {
        const found = await withDeadline(LOOKUP_TIMEOUT, () => resolveHost(hostname)).catch(() => []);
        const addresses = found.map(parseIp).filter((address) => address !== undefined);
        if (addresses.length > 0) this.#known.set(hostname, addresses);
      }),
    );
  }

  /** Notes the system's name servers: without them a relay's name leads nowhere. */
  useNameServers(servers: readonly IpAddress[]): void {
    if (this.#relays().every(({ hostname }) => parseIp(hostname) !== undefined)) return;
    this.#nameServers = servers;
  }

  /** Everything that must stay reachable. */
  endpoints(): Endpoint[] {
    const relays = this.#relays().flatMap(({ hostname, port }) => {
      const literal = parseIp(hostname);
      const addresses = literal === undefined ? this.#known.get(hostname) ?? [] : [literal];
      return addresses.map((address) => ({ address, port }));
    });
    return [...relays, ...this.#nameServers.map((address) => ({ address, port: DNS_PORT }))];
  }

  /** All of them as text, to see whether any is new. */
  toString(): string {
    return this.endpoints().map(({ address, port }) => `${formatIp(address)} ${port}`).join();
  }
}
