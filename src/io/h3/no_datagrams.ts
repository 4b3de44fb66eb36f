/**
 * The datagrams of a request whose carrier has none.
 */

import type { DatagramPort } from "../../dataplane/carrier.ts";

/** A port that takes nothing and brings nothing; `closed` resolves when the connection has ended. */
export function noDatagrams(closed: Promise<unknown>): DatagramPort {
  return {
    maxSize: 0,
    send: refuse,
    writable: async () => void await closed,
    receive: ignore,
  };
}

function refuse(): boolean {
  return false;
}

function ignore(): void {}
