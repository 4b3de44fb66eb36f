/**
 * Opens a TUN interface behind the data plane's port for packets: Linux through our shim, macOS through utun.
 */

import type { PacketDevice } from "../../dataplane/tunnel/packet_device.ts";
import { GinnelError } from "../../base/errors.ts";
import { checkLinuxTun, LinuxTun } from "./linux_tun.ts";
import { openShim } from "./shim.ts";
import { openUtun } from "./utun.ts";

/** Which interface to open. */
export interface TunOptions {
  /** Its name; made when absent, removed when closed. macOS chooses a name itself. */
  readonly name: string;
  /** The largest packet in bytes, header included. */
  readonly mtu: number;
  /** How many queues to read from; one so far. */
  readonly queues?: 1;
}

/** Opens an interface; throws a {@linkcode GinnelError} that says what is missing and how to grant it. */
export function openTun({ name, mtu }: TunOptions): PacketDevice {
  if (!NAME.test(name)) {
    throw new GinnelError("ERR_TUN_NAME", `${JSON.stringify(name)} cannot be the name of an interface`, {
      hint: "Use 1 to 15 of a-z, 0-9, _, . and -, beginning with a letter.",
    });
  }
  return Deno.build.os === "darwin" ? openUtun({ mtu }) : LinuxTun.open({ name, mtu });
}

/** Throws a {@linkcode GinnelError} that says why `openTun` would fail here; makes no interface. */
export function checkTun(name: string): void {
  if (Deno.build.os !== "darwin") checkLinuxTun(name);
}

/**
 * Makes CAP_NET_ADMIN effective where it is permitted (by `setcap` on the file, or by the supervisor), and hands it
 * on to the programs that we start; `openTun` does so by itself. Returns whether we have it.
 */
export function claimNetAdmin(): boolean {
  if (Deno.build.os !== "linux") return Deno.uid() === 0;
  const shim = openShim();
  try {
    return shim.symbols.tun_privilege() === 1;
  } finally {
    shim.close();
  }
}

/** Names of interfaces that need no quoting anywhere and hold no pattern for the kernel to fill in. */
const NAME = /^[a-z][a-z0-9_.-]{0,14}$/;
