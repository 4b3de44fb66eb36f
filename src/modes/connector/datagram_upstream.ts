/**
 * What a flow of datagrams reaches at a connector: an upstream by UDP, or the echo that answers a ping here.
 */

import { FlowRefusedError } from "../../dataplane/errors.ts";
import type { OpenHeader } from "../../dataplane/open_header.ts";
import { TokenBucket } from "../../dataplane/tunnel/token_bucket.ts";
import { connectUdp } from "../../io/udp/connected_socket.ts";
import type { OfferedService } from "./services.ts";

/** The far end of a flow of datagrams. */
export interface DatagramUpstream {
  /** Sends a copy of `bytes[start, end)`; false when it was dropped. */
  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean;
  /** Hands what comes back to `handler`, valid until it returns. */
  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void;
  /** Gives it up. Idempotent. */
  abort(): void;
  /** Resolves when it has ended: with why, unless by {@linkcode abort}. */
  readonly closed: Promise<Error | undefined>;
}

/** What is asked for. */
export type DatagramWish = Pick<OpenHeader, "protocol" | "port" | "address">;

/** Echo messages of one flow answered in a second, and at once. */
const ECHO_RATE = 100;

/** Bytes of the shortest echo message that can be told from others: identifier and sequence number. */
const MIN_ECHO = 4;

/** Opens the upstream of a flow; rejects with `FlowRefusedError` or `DialError`. */
export async function openDatagramUpstream(
  service: OfferedService,
  wish: DatagramWish,
  signal: AbortSignal,
): Promise<DatagramUpstream> {
  if (wish.protocol === "icmp") return new EchoUpstream(() => service.isHealthy);
  const target = await service.target(wish, signal);
  if (target.kind !== "udp") throw new FlowRefusedError("denied", `${service.name} takes no datagrams`);
  const { addresses, port } = target;
  return connectUdp(addresses.map((address) => ({ address, port })));
}

/** Sends every echo message back as it came, while the service could be reached here. */
class EchoUpstream implements DatagramUpstream {
  readonly closed: Promise<Error | undefined>;
  readonly #isHealthy: () => boolean;
  readonly #bucket = new TokenBucket({ perSecond: ECHO_RATE, burst: ECHO_RATE });
  readonly #settle: (error: undefined) => void;
  #handler: ((payload: Uint8Array<ArrayBuffer>) => void) | undefined;

  constructor(isHealthy: () => boolean) {
    ({ promise: this.closed, resolve: this.#settle } = Promise.withResolvers<undefined>());
    this.#isHealthy = isHealthy;
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    if (end - start < MIN_ECHO || !this.#isHealthy() || !this.#bucket.take(performance.now())) return false;
    this.#handler?.(bytes.subarray(start, end));
    return true;
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    this.#handler = handler;
  }

  abort(): void {
    this.#handler = undefined;
    this.#settle(undefined);
  }
}
