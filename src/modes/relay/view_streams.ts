/**
 * Serves `GET /.well-known/ginnel/view`: the signed view now and at every change, the observed address, and
 * drain notices.
 */

import { formatHostPort } from "../../base/address.ts";
import type { Logger } from "../../base/log.ts";
import type { ServerConnection, ServerRequest } from "../../dataplane/carrier.ts";
import type { Peer } from "./peers.ts";
import type { NetworkSource } from "./source/network_source.ts";
import { ViewStream } from "./view_stream.ts";

/** All view streams of one relay. */
export class ViewStreams {
  readonly #views: Pick<NetworkSource, "subscribe" | "network">;
  readonly #logger: Logger;
  readonly #streams = new Set<ViewStream>();
  /** Connections that have had their view stream: each gets one, since every view costs a signature. */
  readonly #viewers = new WeakSet<ServerConnection>();
  #drainSeconds: number | undefined;

  constructor(views: Pick<NetworkSource, "subscribe" | "network">, logger: Logger) {
    this.#views = views;
    this.#logger = logger;
  }

  /** Whether this connection has had its view stream. */
  isServed(connection: ServerConnection): boolean {
    return this.#viewers.has(connection);
  }

  /** Serves a view stream until its connection ends. */
  async serve(request: ServerRequest, peer: Peer): Promise<void> {
    this.#viewers.add(request.connection);
    const body = await request.respond({
      status: 200,
      headers: [["content-type", "application/x-ndjson"], ["cache-control", "no-store"]],
    });
    const stream = new ViewStream(body, this.#logger);
    stream.send({ type: "observed", address: formatHostPort(request.connection.remote) });
    if (this.#drainSeconds !== undefined) stream.send({ type: "drain", seconds: this.#drainSeconds });
    const { network } = this.#views;
    if (network !== undefined) stream.send({ type: "network", jws: network });
    this.#streams.add(stream);
    const unsubscribe = this.#views.subscribe(peer.id.uri, (jws) => stream.send({ type: "view", jws }));
    await request.connection.closed;
    unsubscribe();
    this.#streams.delete(stream);
  }

  /** Passes a new network document on to everybody. */
  network(jws: string | undefined): void {
    if (jws === undefined) return;
    for (const stream of this.#streams) stream.send({ type: "network", jws });
  }

  /** Tells everybody, also those to come, that the relay stops. */
  drain(seconds: number): void {
    this.#drainSeconds = seconds;
    for (const stream of this.#streams) stream.send({ type: "drain", seconds });
  }
}
