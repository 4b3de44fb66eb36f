/** Finds the addresses of an upstream, with the errors of a dial. */

import { resolveHost } from "../system/resolve_host.ts";
import { DialError } from "./dial.ts";

/** All addresses of a host; rejects with {@linkcode DialError} when it has none. */
export async function resolveUpstream(host: string): Promise<readonly string[]> {
  try {
    return await resolveHost(host);
  } catch (cause) {
    throw new DialError("ERR_UPSTREAM_NOT_FOUND", `Upstream has no address: ${host}`, { cause });
  }
}
