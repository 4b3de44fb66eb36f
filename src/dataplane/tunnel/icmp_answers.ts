/**
 * ICMP errors that the hub sends about packets it does not forward (RFC 9484 §7.2.1): to a peer from the relay's gateway
 * address, back through the device in the name of the packet's destination. Both only so often.
 */

import { ipFromWords } from "../../base/ip.ts";
import { encodeIcmpError, type IcmpError, type LocatedPacket } from "../../wire/packet/icmp.ts";
import type { AddressSet } from "./address_set.ts";
import type { DeviceWriter } from "./device_writer.ts";
import { PACKET_HEADROOM } from "./packet_batch.ts";
import { TokenBucket } from "./token_bucket.ts";
import type { TunnelSession } from "./tunnel_session.ts";

/** Errors that carry nothing but their kind. */
export const NO_ROUTE: IcmpError = { kind: "no_route" };
export const PROHIBITED: IcmpError = { kind: "prohibited" };
export const TIME_EXCEEDED: IcmpError = { kind: "time_exceeded" };

/** Errors into the device, all senders together: each new sender of large packets needs one. */
const DEVICE_ERRORS = { burst: 200, perSecond: 200 } as const;

/** Makes ICMP errors as long as the receiver's allowance lasts. */
export class IcmpAnswers {
  readonly #gateways: AddressSet;
  readonly #deviceErrors = new TokenBucket(DEVICE_ERRORS);

  constructor(gateways: AddressSet) {
    this.#gateways = gateways;
  }

  /** Tells a peer what became of its packet. */
  toPeer(session: TunnelSession, packet: LocatedPacket, options: { error: IcmpError; now: number }): void {
    const from = this.#gateways.of(packet.view.version);
    // RFC 4443 §2.4: errors are limited in number, lest they answer a flood with a flood.
    if (from === undefined || !session.icmpErrors.take(options.now)) return;
    const message = encodeIcmpError(packet, options.error, from);
    if (message === undefined) return;
    const framed = new Uint8Array(PACKET_HEADROOM + message.length);
    framed.set(message, PACKET_HEADROOM);
    session.transmit(framed, PACKET_HEADROOM, framed.length);
  }

  /**
   * Tells the sender of a packet that came from the device. The error speaks for the packet's destination: the kernel takes
   * no packet from outside that claims one of its own addresses, such as the gateway's.
   */
  toDevice(packet: LocatedPacket, options: { error: IcmpError; now: number; writer: DeviceWriter }): void {
    if (!this.#deviceErrors.take(options.now)) return;
    const { version, dst0, dst1, dst2, dst3 } = packet.view;
    const message = encodeIcmpError(packet, options.error, ipFromWords(version, dst0, dst1, dst2, dst3));
    if (message !== undefined) options.writer.add(message);
  }
}
