/** Which foreign trust domains a network believes, and by which CAs. */

import type { NetworkState } from "./state.ts";

/** The trust domains in force that have CAs at all. */
export function foreignTrust(
  { trustDomains }: Pick<NetworkState, "trustDomains">,
): { readonly domain: string; readonly roots: readonly string[] }[] {
  return [...trustDomains.values()]
    .filter(({ spec }) => !spec.disabled && spec.roots.length > 0)
    .map(({ name, spec: { roots } }) => ({ domain: name, roots }));
}
