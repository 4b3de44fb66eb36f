/** The addresses of the service pools that are nobody's service, as packets show them. */

import { type IpAddress, ipToBytes, ipWords } from "../../base/ip.ts";
import type { ServiceNetwork } from "../../core/service/catalogue.ts";
import {
  INTERFACE_INDEX,
  PEER_INDEX,
  RESOLVER_INDEX,
  virtualAddress,
} from "../../core/service/virtual_address.ts";
import type { PacketView } from "../../wire/packet/packet_view.ts";

/** One of them in one version. */
export interface CaptureAddress {
  readonly address: IpAddress;
  /** As it stands in a packet. */
  readonly bytes: Uint8Array;
}

/** All of them. */
export class CaptureAddresses {
  /** Answered here: no socket has it. */
  readonly resolver: Readonly<Record<4 | 6, CaptureAddress>>;
  /** The capture interface's. */
  readonly own: Readonly<Record<4 | 6, CaptureAddress>>;
  /** From which captured TCP connections seem to come. */
  readonly peer: Readonly<Record<4 | 6, CaptureAddress>>;
  readonly #resolver: Readonly<Record<4 | 6, Words>>;
  readonly #own: Readonly<Record<4 | 6, Words>>;
  readonly #peer: Readonly<Record<4 | 6, Words>>;

  constructor(network: ServiceNetwork) {
    this.resolver = both(network, RESOLVER_INDEX);
    this.own = both(network, INTERFACE_INDEX);
    this.peer = both(network, PEER_INDEX);
    this.#resolver = wordsOf(this.resolver);
    this.#own = wordsOf(this.own);
    this.#peer = wordsOf(this.peer);
  }

  /** Whether a packet goes to the resolver. */
  goesToResolver(view: PacketView): boolean {
    return isDestination(view, this.#resolver[view.version]);
  }

  /** Whether a packet goes to the address from which captured connections seem to come. */
  goesToPeer(view: PacketView): boolean {
    return isDestination(view, this.#peer[view.version]);
  }

  /** Whether a packet comes from the interface's own address. */
  comesFromOwn(view: PacketView): boolean {
    const [word0, word1, word2, word3] = this.#own[view.version];
    return view.src3 === word3 && view.src2 === word2 && view.src1 === word1 && view.src0 === word0;
  }
}

type Words = readonly [number, number, number, number];

function both(network: ServiceNetwork, index: number): Readonly<Record<4 | 6, CaptureAddress>> {
  const one = (version: 4 | 6): CaptureAddress => {
    const address = virtualAddress(network, version, index);
    return { address, bytes: ipToBytes(address) };
  };
  return { 4: one(4), 6: one(6) };
}

function wordsOf(pair: Readonly<Record<4 | 6, CaptureAddress>>): Readonly<Record<4 | 6, Words>> {
  return { 4: ipWords(pair[4].address), 6: ipWords(pair[6].address) };
}

function isDestination(view: PacketView, [word0, word1, word2, word3]: Words): boolean {
  return view.dst3 === word3 && view.dst2 === word2 && view.dst1 === word1 && view.dst0 === word0;
}
