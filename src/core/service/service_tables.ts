/** Services by what they are found under: names, and prefixes of each length. */

import { type IpAddress, ipBits, type IpVersion } from "../../base/ip.ts";
import type { CataloguedService } from "./catalogue.ts";

/** Prefixes of one length. */
interface PrefixLength {
  readonly version: IpVersion;
  readonly hostBits: bigint;
  /** By the bits of the prefix. */
  readonly services: Map<bigint, CataloguedService[]>;
}

/** Services by the prefixes they intercept. */
export class PrefixIndex {
  /** Longest first. */
  readonly #lengths: readonly PrefixLength[];

  constructor(services: readonly CataloguedService[]) {
    this.#lengths = byLength(services);
  }

  /** Those whose prefixes hold an address, in groups from the longest prefix on. */
  *at({ version, value }: IpAddress): Generator<readonly CataloguedService[], void, void> {
    for (const length of this.#lengths) {
      if (length.version !== version) continue;
      const group = length.services.get(value >> length.hostBits);
      if (group !== undefined) yield group;
    }
  }
}

/** Services by each of their keys, in the order given. */
export function grouped(
  services: readonly CataloguedService[],
  keysOf: (service: CataloguedService) => readonly string[],
): Map<string, CataloguedService[]> {
  const groups = new Map<string, CataloguedService[]>();
  for (const service of services) {
    for (const key of keysOf(service)) {
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [service]);
      else group.push(service);
    }
  }
  return groups;
}

function byLength(services: readonly CataloguedService[]): PrefixLength[] {
  const tables = new Map<string, PrefixLength & { readonly length: number }>();
  for (const service of services) {
    for (const { version, first, length } of service.prefixes) {
      const hostBits = BigInt(ipBits(version) - length);
      const key = `${version}/${length}`;
      const table = tables.get(key) ?? { version, hostBits, length, services: new Map() };
      tables.set(key, table);
      const bits = first >> hostBits;
      const group = table.services.get(bits);
      if (group === undefined) table.services.set(bits, [service]);
      else group.push(service);
    }
  }
  return [...tables.values()].sort((a, b) => b.length - a.length);
}
