/**
 * Finds the addresses of a name by the system's resolver, `/etc/hosts` included.
 */

import { lookup } from "node:dns/promises";

/** All addresses of a host, as text; an address is its own. Rejects when the name has none. */
export async function resolveHost(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}
