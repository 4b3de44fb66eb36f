/** Which commands lead from an interface's present state to the wanted one: pure. */

import { formatIp, type IpAddress, ipBits } from "../../base/ip.ts";
import type { Step } from "./batch.ts";

/** An address of an interface with the length of its network's prefix; host bits are kept. */
export interface InterfaceAddress {
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/** An interface as the kernel has it. */
export interface InterfaceState {
  readonly up: boolean;
  readonly mtu: number;
  /** How the kernel makes an IPv6 link-local address for it: "none", or some way. */
  readonly addressGeneration: string;
  readonly addresses: readonly InterfaceAddress[];
}

/** An interface as it should be. */
export interface InterfaceWish extends InterfaceState {
  /** Whether an address brings the route to its whole prefix; default true. */
  readonly prefixRoute?: boolean;
}

/** Ways of `ip link set addrgenmode`; from any other a state cannot be restored, and it is left alone. */
const ADDRESS_GENERATION = new Set(["none", "eui64", "stable_secret", "random"]);

/** Returns the steps, none where the wish is met. */
export function planInterface(
  name: string,
  present: InterfaceState,
  wish: InterfaceWish,
): Step[] {
  const steps: Step[] = [];
  const link = (wanted: string, was: string) => {
    if (wanted !== was) {
      steps.push({ run: `link set dev ${name} ${wanted}`, undo: `link set dev ${name} ${was}` });
    }
  };
  const canGenerate = [present, wish].every((state) => ADDRESS_GENERATION.has(state.addressGeneration));
  // First of all: the kernel would make a link-local address at once when the interface comes up.
  if (canGenerate) link(`addrgenmode ${wish.addressGeneration}`, `addrgenmode ${present.addressGeneration}`);
  link(`mtu ${wish.mtu}`, `mtu ${present.mtu}`);
  if (wish.up) link("up", present.up ? "up" : "down");
  const options = wish.prefixRoute === false ? " noprefixroute" : "";
  // Last first: with the first of a network's IPv4 addresses the kernel takes away the others.
  for (const item of without(present.addresses, wish.addresses).toReversed()) {
    steps.push({ run: `addr del ${line(name, item)}`, undo: `addr add ${line(name, item)}${noDad(item)}` });
  }
  for (const item of without(wish.addresses, present.addresses)) {
    steps.push({
      run: `addr add ${line(name, item)}${noDad(item)}${options}`,
      undo: `addr del ${line(name, item)}`,
    });
  }
  if (!wish.up) link("down", present.up ? "up" : "down");
  return steps;
}

/** Writes `address/length` with the host bits. */
export function formatHostPrefix({ address, prefixLength }: InterfaceAddress): string {
  return `${formatIp(address)}/${prefixLength}`;
}

/** Throws `RangeError` for an interface that the kernel would refuse for reasons of its own. */
export function checkWish({ mtu, addresses }: Pick<InterfaceState, "mtu" | "addresses">): void {
  if (!Number.isInteger(mtu) || mtu < 576 || mtu > 65_535) {
    throw new RangeError(`Cannot set MTU ${mtu}: expected 576 to 65535`);
  }
  for (const { address, prefixLength } of addresses) {
    const bits = ipBits(address.version);
    if (!Number.isInteger(prefixLength) || prefixLength < 1 || prefixLength > bits) {
      throw new RangeError(`Cannot set a prefix length of ${prefixLength}: expected 1 to ${bits}`);
    }
  }
}

/** There is nobody on the link whom duplicate detection could ask. */
function noDad({ address }: InterfaceAddress): string {
  return address.version === 6 ? " nodad" : "";
}

function line(name: string, item: InterfaceAddress): string {
  return `${formatHostPrefix(item)} dev ${name}`;
}

function without(list: readonly InterfaceAddress[], gone: readonly InterfaceAddress[]): InterfaceAddress[] {
  const known = new Set(gone.map(formatHostPrefix));
  return list.filter((item) => !known.has(formatHostPrefix(item)));
}
