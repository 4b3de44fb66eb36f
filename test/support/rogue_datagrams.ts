/** The datagrams of one flow in the hands of a rogue relay: bare, in both directions, to do with them what it likes. */

import type { DatagramPort } from "../../src/dataplane/carrier.ts";
import { ContextDatagrams } from "../../src/dataplane/datagram/context_datagrams.ts";
import { FLOW_DATAGRAM_HEADROOM, type FlowDatagramPort } from "../../src/dataplane/flow_datagrams.ts";

/** Which way a datagram was going. */
export type DatagramWay = "toConnector" | "toAgent";

/** One flow's datagrams. */
export class RogueDatagrams {
  /** Everything that came so far, copied. */
  readonly seen: Record<DatagramWay, Uint8Array<ArrayBuffer>[]> = { toConnector: [], toAgent: [] };
  /** Takes each datagram; by default it goes on as it came. */
  take: (way: DatagramWay, payload: Uint8Array<ArrayBuffer>) => void = (way, payload) => {
    this.send(way, payload);
  };
  readonly #agent: DatagramPort;
  readonly #connector: FlowDatagramPort;

  constructor(agent: DatagramPort, connector: FlowDatagramPort) {
    this.#agent = new ContextDatagrams(agent);
    this.#connector = connector;
    this.#agent.receive((payload) => this.#took("toConnector", payload.slice()));
    connector.receive((payload) => this.#took("toAgent", payload.slice()));
  }

  /** Sends a datagram to one of the ends. */
  send(way: DatagramWay, payload: Uint8Array): void {
    const buffer = new Uint8Array(FLOW_DATAGRAM_HEADROOM + payload.length);
    buffer.set(payload, FLOW_DATAGRAM_HEADROOM);
    const port = way === "toAgent" ? this.#agent : this.#connector;
    port.send(buffer, FLOW_DATAGRAM_HEADROOM, buffer.length);
  }

  #took(way: DatagramWay, payload: Uint8Array<ArrayBuffer>): void {
    this.seen[way].push(payload);
    this.take(way, payload);
  }
}
