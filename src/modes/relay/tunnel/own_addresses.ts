/**
 * The addresses of the relay's own machine: a rule that allows the internet means none of them, whoever takes care of
 * firewall and NAT.
 */

import {
  ipBits,
  type IpPrefix,
  parsePrefix,
  prefixContains,
  prefixOf,
  prefixRange,
} from "../../../base/ip.ts";
import { type Destination, PrefixSet } from "../../../core/egress/prefix_set.ts";

/** Milliseconds after which the machine's addresses are read again when somebody asks. */
const FRESH = 5_000;

/** How to make {@linkcode OwnAddresses}. */
export interface OwnAddressesOptions {
  /** Pools of tunnels: rules name addresses in them, the relay's own among these. */
  readonly except: readonly IpPrefix[];
  /** The machine's addresses with the lengths of their networks; default: as the kernel has them now. */
  readonly read?: () => readonly string[];
  readonly now?: () => number;
}

/** Knows what leads to this machine, broadcast addresses included; reads that again only when asked. */
export class OwnAddresses {
  readonly #options: OwnAddressesOptions;
  #set = new PrefixSet([]);
  #readAt = -Infinity;

  constructor(options: OwnAddressesOptions) {
    this.#options = options;
  }

  /** Tells whether the address is one of this machine's. */
  contains(destination: Destination): boolean {
    const { except, read = interfaceAddresses, now = Date.now } = this.#options;
    const time = now();
    if (time - this.#readAt >= FRESH || time < this.#readAt) {
      this.#readAt = time;
      const own = read().flatMap(deliveredBy);
      this.#set = new PrefixSet(
        own.filter(({ version, first: value }) =>
          !except.some((pool) => prefixContains(pool, { version, value }))
        ),
      );
    }
    return this.#set.contains(destination);
  }
}

function interfaceAddresses(): string[] {
  return Deno.networkInterfaces().map(({ cidr }) => cidr);
}

/** The address itself, and for IPv4 both forms of its network's broadcast address. */
function deliveredBy(text: string): IpPrefix[] {
  const [address = ""] = text.split("/");
  const own = parsePrefix(address);
  const network = parsePrefix(text);
  if (own === undefined || network === undefined) return [];
  const { version } = own;
  if (version === 6) return [own];
  const { first, last } = prefixRange(network);
  return [own, ...[first, last].map((value) => prefixOf({ version, value }, ipBits(version)))];
}
