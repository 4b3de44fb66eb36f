/** Whether IPv6 is on: containers and hardened machines often have it off, and the kernel then refuses its routes. */

import type { KernelFiles } from "./libc.ts";

/** Tells whether an interface may have IPv6 addresses and routes; of "all", whether the kernel knows IPv6. */
export function ipv6Usable(files: KernelFiles, interfaceName: string): boolean {
  const value = files.read(`/proc/sys/net/ipv6/conf/${interfaceName}/disable_ipv6`);
  return interfaceName === "all" ? value !== undefined : value === "0";
}
