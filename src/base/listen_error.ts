/**
 * Why an address cannot be listened on, in words that name the address and say what to do.
 */

import { GinnelError } from "./errors.ts";

/** Turns what the runtime threw into `ERR_LISTEN_*`; `name` is the address as people write it, such as `udp 0.0.0.0:4433`. */
export function listenError(name: string, cause: unknown): GinnelError {
  if (cause instanceof Deno.errors.AddrInUse) {
    return new GinnelError("ERR_LISTEN_IN_USE", `Cannot listen on ${name}: the address is in use`, {
      cause,
      hint: "Stop the other program or choose another port",
    });
  }
  if (cause instanceof Deno.errors.AddrNotAvailable) {
    return new GinnelError(
      "ERR_LISTEN_FOREIGN",
      `Cannot listen on ${name}: this machine has no such address`,
      {
        cause,
        hint: "Choose an address of this machine, or 0.0.0.0 for all",
      },
    );
  }
  if (cause instanceof Deno.errors.PermissionDenied) {
    return new GinnelError("ERR_LISTEN_DENIED", `Cannot listen on ${name}: permission denied`, {
      cause,
      hint: "Choose a port above 1023",
    });
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new GinnelError("ERR_LISTEN_FAILED", `Cannot listen on ${name}: ${reason}`, { cause });
}
