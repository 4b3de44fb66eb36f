/**
 * What a refusal by the kernel means for the user, and what to do about it.
 */

import { GinnelError } from "../../base/errors.ts";

/** What was tried and what the kernel said. */
export interface OpenFailure {
  readonly name: string;
  readonly errno: number;
  /** Whether `/dev/net/tun` itself was opened. */
  readonly deviceOpened: boolean;
}

/** The error for an interface that could not be opened. */
export function openError({ name, errno, deviceOpened }: OpenFailure): GinnelError {
  const reason = errnoName(errno);
  if (!deviceOpened && ABSENT.has(reason)) {
    return new GinnelError("ERR_TUN_NO_DEVICE", `This machine offers no /dev/net/tun (${reason})`, {
      hint: "Load the kernel's module (modprobe tun), or give the container the device: " +
        "docker run --device /dev/net/tun --cap-add NET_ADMIN.",
    });
  }
  if (!deviceOpened) {
    return new GinnelError("ERR_TUN_NO_DEVICE", `This process may not open /dev/net/tun (${reason})`, {
      hint:
        "Let its user read and write the device (chmod 0666 /dev/net/tun), or give the container the device: " +
        "docker run --device /dev/net/tun --cap-add NET_ADMIN.",
    });
  }
  switch (reason) {
    case "EPERM":
      return new GinnelError(
        "ERR_TUN_NO_PRIVILEGE",
        `Interface ${name} cannot be opened without the capability CAP_NET_ADMIN`,
        {
          hint:
            "Grant just that one: setcap cap_net_admin+ep FILE, or AmbientCapabilities=CAP_NET_ADMIN in the " +
            "systemd unit, or docker run --cap-add NET_ADMIN --device /dev/net/tun.",
        },
      );
    case "EBUSY":
      return new GinnelError("ERR_TUN_BUSY", `Interface ${name} is in use by another program`, {
        hint: "Stop that program, or choose another name in tunnel.interface.",
      });
    case "EINVAL":
      return new GinnelError("ERR_TUN_NAME", `There is an interface ${name} already, of another kind`, {
        hint: "Remove that interface, or choose another name in tunnel.interface.",
      });
  }
  return new GinnelError("ERR_TUN_OPEN", `Interface ${name} cannot be opened: ${reason}`);
}

/** The name of an errno, as `EPERM`. */
export function errnoName(errno: number): string {
  return ERRNO[errno] ?? `errno ${errno}`;
}

/** How a missing device shows itself: no node, or no module behind it. */
const ABSENT: ReadonlySet<string> = new Set(["ENOENT", "ENODEV", "ENXIO", "ENOTDIR"]);

const ERRNO: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  5: "EIO",
  6: "ENXIO",
  9: "EBADF",
  12: "ENOMEM",
  13: "EACCES",
  14: "EFAULT",
  16: "EBUSY",
  19: "ENODEV",
  20: "ENOTDIR",
  22: "EINVAL",
  23: "ENFILE",
  24: "EMFILE",
  25: "ENOTTY",
  77: "EBADFD",
};
