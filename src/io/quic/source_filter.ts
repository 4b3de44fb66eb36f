/**
 * Keeps a dialing socket dark: the QUIC implementation answers stray packets with stateless resets, so the
 * kernel drops, unanswered, whatever does not come from an address that was dialled.
 */

import { formatHostPort, type HostPort } from "../../base/address.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { openSockets, SOL_SOCKET } from "../libc_sockets.ts";
import { allowSources } from "../packet_filter.ts";

/** Addresses remembered; the one dialled longest ago is forgotten first. */
const MAX_SOURCES = 64;

/** The addresses that may send to one socket. */
export class SourceFilter {
  readonly #allowed = new Map<string, HostPort>();

  /** Lets an address in, on the UDP socket bound to port `socket`. Never throws: failing leaves it open. */
  allow(source: HostPort, options: { readonly socket: number; readonly logger: Logger }): void {
    const key = formatHostPort(source);
    const known = this.#allowed.delete(key);
    this.#allowed.set(key, source);
    if (known) return;
    const [oldest] = this.#allowed.keys();
    if (this.#allowed.size > MAX_SOURCES && oldest !== undefined) this.#allowed.delete(oldest);
    this.#apply(options);
  }

  #apply(options: { readonly socket: number; readonly logger: Logger }): void {
    try {
      using sockets = openSockets({ kind: "udp", port: options.socket });
      const program = allowSources([...this.#allowed.values()]);
      if (!sockets.attach(SO_ATTACH_FILTER, program)) throw new Error("The kernel refused the packet filter");
    } catch (error) {
      options.logger.warn("socket_not_dark", { reason: errorMessage(error) });
    }
  }
}

const SO_ATTACH_FILTER = { level: SOL_SOCKET, name: 26 } as const;
