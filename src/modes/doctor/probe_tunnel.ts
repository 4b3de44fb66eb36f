/**
 * Tries what IP tunnels need of this machine, for `ginnel doctor` and `ginnel dev`: the device, the capability, the
 * programs, and whether packets are forwarded. Changes nothing.
 */

import { GinnelError } from "../../base/errors.ts";
import type { IpVersion } from "../../base/ip.ts";
import { type Invocation, runChecked, systemCommands } from "../../io/network/commands.ts";
import { FORWARDING_SWITCH, isForwarding } from "../../io/network/forwarding.ts";
import { SYSTEM_FILES } from "../../io/network/libc.ts";
import { checkTun, claimNetAdmin } from "../../io/tun/device.ts";

/** Why something needed is not there, with what to do about it; undefined: it is there. */
export type Lack = GinnelError | undefined;

/** How forwarding of one IP version is; `locked`: off, and we may not switch it on. */
export type Forwarding = "on" | "off" | "locked" | "absent";

/** Whether an interface of that name could be made. */
export function probeTun(name: string): Lack {
  return lackOf(() => checkTun(name));
}

/** Whether this process has the capability CAP_NET_ADMIN; throws where that cannot be found out. */
export function probeNetAdmin(): boolean {
  return claimNetAdmin();
}

/** Whether `ip` is there and can be run. */
export function probeIp(): Promise<Lack> {
  return lackOfCommand({ program: "ip", args: ["-Version"], purpose: "set up interfaces" });
}

/** Whether `nft` is there, and the kernel and this process's rights let it work. */
export function probeNft(): Promise<Lack> {
  return lackOfCommand({ program: "nft", args: ["list", "tables"], purpose: "use nftables" });
}

/** How forwarding of a version is, and whether it could be switched on. */
export function probeForwarding(version: IpVersion): Forwarding {
  const forwarding = isForwarding(version, SYSTEM_FILES);
  if (forwarding === undefined) return "absent";
  if (forwarding) return "on";
  // Nothing is written; but the file is opened for it, which tells whether we may.
  const lack = lackOf(() => SYSTEM_FILES.write(`/proc/sys/${FORWARDING_SWITCH[version]}`, ""));
  return lack === undefined ? "off" : "locked";
}

async function lackOfCommand(invocation: Invocation): Promise<Lack> {
  try {
    await runChecked(systemCommands(), invocation);
    return undefined;
  } catch (error) {
    if (error instanceof GinnelError) return error;
    throw error;
  }
}

function lackOf(step: () => void): Lack {
  try {
    step();
    return undefined;
  } catch (error) {
    if (error instanceof GinnelError) return error;
    throw error;
  }
}
