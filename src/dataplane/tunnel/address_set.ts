/**
 * The few addresses of one tunnel endpoint, matched against packets without an allocation.
 */

import { type IpAddress, ipWords } from "../../base/ip.ts";
import type { PacketView } from "../../wire/packet/packet_view.ts";

/** Words per address: its version, and the four of a packet view. */
const STRIDE = 5;

/** Addresses that somebody owns. */
export class AddressSet {
  readonly addresses: readonly IpAddress[];
  readonly #words: Uint32Array<ArrayBuffer>;

  constructor(addresses: readonly IpAddress[]) {
    this.addresses = addresses;
    this.#words = new Uint32Array(addresses.flatMap((address) => [address.version, ...ipWords(address)]));
  }

  /** Tells whether the packet comes from one of them. */
  hasSource(view: PacketView): boolean {
    const words = this.#words;
    for (let i = 0; i < words.length; i += STRIDE) {
      // The version counts too: the words of ::ffff:10.0.0.1 are those of 10.0.0.1.
      if (
        words[i + 4] === view.src3 && words[i] === view.version && words[i + 3] === view.src2 &&
        words[i + 2] === view.src1 && words[i + 1] === view.src0
      ) return true;
    }
    return false;
  }

  /** Tells whether the packet goes to one of them. */
  hasDestination(view: PacketView): boolean {
    const words = this.#words;
    for (let i = 0; i < words.length; i += STRIDE) {
      if (
        words[i + 4] === view.dst3 && words[i] === view.version && words[i + 3] === view.dst2 &&
        words[i + 2] === view.dst1 && words[i + 1] === view.dst0
      ) return true;
    }
    return false;
  }

  /** Returns the first address of a version. */
  of(version: 4 | 6): IpAddress | undefined {
    return this.addresses.find((address) => address.version === version);
  }
}
