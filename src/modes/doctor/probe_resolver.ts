/** Looks whether a killed agent left this machine's resolver as it had it, for `ginnel doctor`. */

import { findResolverLeftovers } from "../../io/network/resolver_leftovers.ts";

/** The interfaces whose dead owners still stand in this machine's resolver. */
export async function probeResolver(): Promise<readonly string[]> {
  return (await findResolverLeftovers()).map(({ interface: name }) => name);
}
