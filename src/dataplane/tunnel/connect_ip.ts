/**
 * One end of a connect-ip request (RFC 9484), either role: IP packets in datagrams where they fit, else in capsules on the
 * stream, and the lists of addresses and routes that the two ends tell each other. What they mean is its owner's.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { ProtocolError } from "../../base/errors.ts";
import { type Capsule, CapsuleReader } from "../../wire/capsule/capsule.ts";
import {
  ADDRESS_ASSIGN,
  ADDRESS_REQUEST,
  type AssignedAddress,
  decodeAddressAssign,
  decodeAddressRequest,
  decodeRouteAdvertisement,
  encodeAddressAssign,
  encodeAddressRequest,
  encodeRouteAdvertisement,
  type IpRoute,
  MAX_CONNECT_IP_CAPSULE,
  ROUTE_ADVERTISEMENT,
} from "../../wire/capsule/connect_ip.ts";
import { decodeZgateAddressAssign, encodeZgateAddressAssign, IP_PACKET } from "../../wire/capsule/zgate.ts";
import { H3_MESSAGE_ERROR } from "../../wire/h3/codes.ts";
import { DATAGRAM_CAPSULE } from "../../wire/http_datagram.ts";
import { isFragment } from "../../wire/packet/packet_view.ts";
import { readVarint, varintLength } from "../../wire/varint.ts";
import { DATAGRAM_HEADROOM, type DatagramPort } from "../carrier.ts";
import { CapsuleSender, type PacketFraming } from "./capsule_sender.ts";
import type { TunnelLink } from "./tunnel_link.ts";

/** How packets and addresses are written: as RFC 9484 says, or in the dialect of `wire/capsule/zgate.ts`. */
export type ConnectIpDialect = "rfc9484" | "zgate";

/** What a {@linkcode ConnectIp} is made from. Callbacks are called from within `run()` and the datagram port. */
export interface ConnectIpOptions {
  /** The content of the request's stream. */
  readonly body: ByteChannel;
  readonly datagrams: DatagramPort;
  readonly dialect: ConnectIpDialect;
  /** Whether the peer must assign addresses before it says anything else, as servers of the older dialect do. */
  readonly expectsAssign?: boolean;
  /** Takes what the peer says is an IP packet, perhaps an empty one; the view is valid only during the call. */
  readonly onPacket: (packet: Uint8Array<ArrayBuffer>) => void;
  /** The addresses that we may use from now on, instead of those before. */
  readonly onAssign?: (addresses: AssignedAddress[]) => void;
  /** Addresses that the peer asks for; each is to be answered by an assignment with its request ID. */
  readonly onRequest?: (addresses: AssignedAddress[]) => void;
  /** Where the peer takes packets to from now on, instead of the routes before. */
  readonly onRoutes?: (routes: IpRoute[]) => void;
}

/** The MTU that a link has which carries IPv6 (RFC 8200 §5): packets that fit into no datagram go on the stream. */
export const MIN_MTU = 1_280;

/** The longest IP packet, and the longest context ID in front of it. */
const MAX_DATAGRAM = 65_535 + 8;

/** One end of a tunnel. `run()` it, once, as long as it lives. */
export class ConnectIp implements TunnelLink {
  readonly #options: ConnectIpOptions;
  readonly #body: ByteChannel;
  readonly #datagrams: DatagramPort;
  readonly #onPacket: (packet: Uint8Array<ArrayBuffer>) => void;
  readonly #usesDatagrams: boolean;
  readonly #sender: CapsuleSender;
  #ended = false;
  #expectsAssign: boolean;

  constructor(options: ConnectIpOptions) {
    const { body, datagrams, dialect, expectsAssign = false, onPacket } = options;
    this.#expectsAssign = expectsAssign;
    this.#options = options;
    this.#body = body;
    this.#datagrams = datagrams;
    this.#onPacket = onPacket;
    this.#usesDatagrams = dialect === "rfc9484";
    this.#sender = new CapsuleSender(body, {
      framing: FRAMING[dialect],
      onFailure: (error) => this.abort(error),
    });
    datagrams.receive((payload) => this.#takeDatagram(payload));
  }

  get mtu(): number {
    // RFC 8200 §5: a link that carries IPv6 takes packets of 1,280 bytes, whatever the path's datagrams are.
    return this.#usesDatagrams ? Math.max(MIN_MTU, this.#datagrams.maxSize - CONTEXT_SIZE) : MIN_MTU;
  }

  send(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    if (start < SEND_HEADROOM) throw new RangeError(`Cannot send packet: only ${start} bytes in front of it`);
    if (this.#ended) return false;
    if (!this.#usesDatagrams || !this.#fitsDatagram(buffer, start, end)) {
      return this.#sender.sendPacket(buffer, start, end);
    }
    buffer[start - CONTEXT_SIZE] = PACKET_CONTEXT;
    return this.#datagrams.send(buffer, start - CONTEXT_SIZE, end);
  }

  sendInOrder(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    return !this.#ended && this.#sender.sendPacket(buffer, start, end);
  }

  writable(): Promise<void> {
    if (this.#ended) return Promise.resolve();
    if (this.#sender.isFull) return this.#sender.room();
    const sendsDatagrams = this.#usesDatagrams && this.#datagrams.maxSize > CONTEXT_SIZE;
    return sendsDatagrams ? this.#datagrams.writable() : Promise.resolve();
  }

  /**
   * Reads what the peer says on the stream until the tunnel ends. Resolves at the peer's clean end, having ended our
   * direction too; rejects, having reset the stream, with a `ProtocolError`, `ChannelResetError` or what a callback threw.
   */
  async run(): Promise<void> {
    const { dialect } = this.#options;
    const reader = new CapsuleReader({ maxLength: MAX_CONNECT_IP_CAPSULE, known: KNOWN_CAPSULES[dialect] });
    try {
      for (let bytes = await this.#body.read(); bytes !== null; bytes = await this.#body.read()) {
        reader.push(bytes);
        for (let capsule = reader.next(); capsule !== undefined; capsule = reader.next()) {
          this.#takeCapsule(capsule);
        }
      }
      reader.end();
    } catch (error) {
      this.abort(error);
      throw error;
    }
    // Not awaited: a peer that does not read any more need not keep us.
    this.close().catch((error) => this.abort(error));
  }

  /** Tells the peer all addresses that it may use; resolves when they have left. */
  sendAssign(addresses: readonly AssignedAddress[]): Promise<void> {
    const isZgate = this.#options.dialect === "zgate";
    return this.#sender.send(isZgate ? encodeZgateAddressAssign(addresses) : encodeAddressAssign(addresses));
  }

  /** Asks the peer for addresses; resolves when the request has left. */
  sendRequest(addresses: readonly AssignedAddress[]): Promise<void> {
    return this.#sender.send(encodeAddressRequest(addresses));
  }

  /** Tells the peer all routes that it may use; resolves when they have left. */
  sendRoutes(routes: readonly IpRoute[]): Promise<void> {
    return this.#sender.send(encodeRouteAdvertisement(routes));
  }

  /** Ends our direction cleanly: lists that wait leave, packets either way are dropped. The peer then ends its own. */
  close(): Promise<void> {
    this.#ended = true;
    return this.#sender.close();
  }

  /** Ends the tunnel at once. Idempotent. */
  abort(reason?: unknown): void {
    this.#ended = true;
    this.#sender.abort(reason ?? new TypeError("Tunnel was aborted"));
    this.#body.abort(reason);
  }

  #fitsDatagram(buffer: Uint8Array, start: number, end: number): boolean {
    const room = this.#datagrams.maxSize - CONTEXT_SIZE;
    if (end - start > room) return false;
    // A packet's last fragment must not overtake the first, which may be larger than this path's datagrams.
    return room >= MIN_MTU || !isFragment(buffer, start);
  }

  #takeDatagram(payload: Uint8Array<ArrayBuffer>): void {
    if (this.#ended) return;
    // As everybody writes it.
    if (payload[0] === PACKET_CONTEXT) return this.#onPacket(payload.subarray(CONTEXT_SIZE));
    const size = contextSize(payload);
    // Datagrams may be lost anyway, so that a malformed one need not cost the tunnel.
    if (size !== undefined) this.#takeContext(payload, size);
  }

  #takeContext(payload: Uint8Array<ArrayBuffer>, size: number): void {
    // RFC 9484 §6: datagrams of an unknown context are dropped in silence.
    if (readVarint(payload, 0) === PACKET_CONTEXT) this.#onPacket(payload.subarray(size));
  }

  #takeCapsule({ type, value }: Capsule): void {
    if (this.#ended) return;
    if (this.#expectsAssign && type !== ADDRESS_ASSIGN) {
      throw new ProtocolError(
        "stream",
        H3_MESSAGE_ERROR,
        `First capsule is no ADDRESS_ASSIGN but of type ${type}`,
      );
    }
    this.#expectsAssign = false;
    switch (type) {
      case DATAGRAM_CAPSULE:
        return this.#takeDatagramCapsule(value);
      case IP_PACKET:
        return this.#onPacket(value);
      case ADDRESS_ASSIGN:
        return this.#takeAssign(value);
      case ADDRESS_REQUEST:
        return this.#takeRequest(value);
      case ROUTE_ADVERTISEMENT:
        return this.#takeRoutes(value);
    }
  }

  #takeDatagramCapsule(value: Uint8Array<ArrayBuffer>): void {
    const size = contextSize(value);
    // RFC 9297 §3.3: a capsule that ends inside a field makes the message malformed.
    if (size === undefined) {
      throw new ProtocolError("stream", H3_MESSAGE_ERROR, "DATAGRAM capsule ends inside its context ID");
    }
    if (value.length <= MAX_DATAGRAM) this.#takeContext(value, size);
  }

  #takeAssign(value: Uint8Array<ArrayBuffer>): void {
    const decode = this.#options.dialect === "zgate" ? decodeZgateAddressAssign : decodeAddressAssign;
    // Here and below decoded even when nobody asks: a malformed list ends the tunnel.
    const addresses = decode(value);
    this.#options.onAssign?.(addresses);
  }

  #takeRequest(value: Uint8Array<ArrayBuffer>): void {
    const addresses = decodeAddressRequest(value);
    this.#options.onRequest?.(addresses);
  }

  #takeRoutes(value: Uint8Array<ArrayBuffer>): void {
    const routes = decodeRouteAdvertisement(value);
    this.#options.onRoutes?.(routes);
  }
}

/** The context whose datagrams are IP packets (RFC 9484 §6), and how many bytes it takes. */
const PACKET_CONTEXT = 0;
const CONTEXT_SIZE = 1;

/** Bytes in front of a packet that sending it may overwrite; whoever has `PACKET_HEADROOM` has enough. */
const SEND_HEADROOM = DATAGRAM_HEADROOM + CONTEXT_SIZE;

const FRAMING: Readonly<Record<ConnectIpDialect, PacketFraming>> = {
  rfc9484: { type: DATAGRAM_CAPSULE, prefix: [PACKET_CONTEXT] },
  zgate: { type: IP_PACKET, prefix: [] },
};

const STANDARD_CAPSULES = [DATAGRAM_CAPSULE, ADDRESS_ASSIGN, ADDRESS_REQUEST, ROUTE_ADVERTISEMENT];

const KNOWN_CAPSULES: Readonly<Record<ConnectIpDialect, ReadonlySet<number>>> = {
  rfc9484: new Set(STANDARD_CAPSULES),
  zgate: new Set([...STANDARD_CAPSULES, IP_PACKET]),
};

/** Bytes of the context ID at the start of a payload; `undefined` when they are not all there. */
function contextSize(payload: Uint8Array): number | undefined {
  const first = payload[0];
  if (first === undefined) return undefined;
  const size = varintLength(first);
  return size <= payload.length ? size : undefined;
}
