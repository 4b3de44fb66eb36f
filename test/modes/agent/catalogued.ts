/** A service as the catalogue shows it, for tests of what is made of it. */

import { parseIp } from "../../../src/base/ip.ts";
import type { CataloguedService } from "../../../src/core/service/catalogue.ts";

/** A service with one TCP port, 443, unless told otherwise. */
export function catalogued(name: string, parts: Partial<CataloguedService> = {}): CataloguedService {
  const index = parts.index ?? 77;
  return {
    name,
    index,
    ipv4: parseIp(`10.101.${index >> 8}.${index & 255}`)!,
    ipv6: parseIp(`fd00::${index.toString(16)}`)!,
    hosts: [`${name}.ginnel.internal`],
    wildcards: [],
    prefixes: [],
    protocols: ["tcp"],
    ports: [{ low: 443, high: 443 }],
    endToEnd: "required",
    connectors: [],
    idleTimeout: 120_000,
    ...parts,
  };
}
