/** Asks the kernel which way a packet would go: by all its rules and tables, ours included. */

import { formatIp, type IpAddress } from "../../base/ip.ts";
import type { Commands } from "./commands.ts";
import { type NextHop, readLookup } from "./ip_json.ts";

/** Returns the interface and gateway towards `address`; `undefined` where there is no way, or it is our own. */
export async function lookUpRoute(
  address: IpAddress,
  { commands }: { readonly commands: Commands },
): Promise<NextHop | undefined> {
  const { code, stdout } = await commands.run("ip", ["-json", "route", "get", formatIp(address)]);
  return code === 0 ? readLookup(stdout) : undefined;
}
