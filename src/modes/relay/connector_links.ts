/**
 * The connectors that are online: takes their reverse sessions in, finds the one a caller means, and forgets them
 * when they go.
 */

import type { Logger } from "../../base/log.ts";
import type { PolicySnapshot } from "../../core/policy/snapshot.ts";
import type { ServiceRegistry } from "../../core/registry.ts";
import type { ServerRequest } from "../../dataplane/carrier.ts";
import { INSTANCE_HEADER } from "../shared/relay_protocol.ts";
import { ConnectorLink } from "./connector_link.ts";
import type { Peer } from "./peers.ts";

/** What the links need. */
export interface ConnectorLinksOptions {
  readonly registry: ServiceRegistry;
  readonly snapshot: () => PolicySnapshot;
  readonly maxServices: number;
  /** Told of the services a connector offers, whenever those change. */
  readonly onBound: (peer: Peer, services: readonly string[]) => void;
  /** Told of a service that a connector may not offer. */
  readonly onDenied: (peer: Peer, service: string, reason: string) => void;
  readonly logger: Logger;
}

/** The form of an instance's name. */
const INSTANCE = /^[0-9a-f-]{8,64}$/;

/** All connectors online at one relay, by identity and instance. */
export class ConnectorLinks {
  readonly #options: ConnectorLinksOptions;
  readonly #links = new Map<string, ConnectorLink>();

  constructor(options: ConnectorLinksOptions) {
    this.#options = options;
  }

  get(key: string): ConnectorLink | undefined {
    return this.#links.get(key);
  }

  /** The link of a connector by its name, of a workload by its SPIFFE ID; of one instance when that is given. */
  find(connector: string, instance: string | undefined): ConnectorLink | undefined {
    return [...this.#links.values()].find((link) => {
      // A workload's path may look like a connector's name.
      const name = link.id.kind === "workload" ? link.id.uri : link.id.name;
      return name === connector && (instance === undefined || link.instance === instance);
    });
  }

  /** The keys of the links whose instances are named. */
  keysOf(instances: ReadonlySet<string>): ReadonlySet<string> {
    if (instances.size === 0) return instances;
    return new Set(
      [...this.#links.values()].filter((link) => instances.has(link.instance)).map((link) => link.key),
    );
  }

  /** Whether this request may open a reverse session. */
  mayServe(request: ServerRequest, peer: Peer): boolean {
    return mayOffer(peer) && INSTANCE.test(request.head.headers.get(INSTANCE_HEADER) ?? "");
  }

  /** Serves a connector's reverse session until it ends. */
  async serve(request: ServerRequest, peer: Peer): Promise<void> {
    const { registry, snapshot, maxServices, onBound, onDenied, logger } = this.#options;
    const instance = request.head.headers.get(INSTANCE_HEADER)!;
    const session = await request.connection.acceptWebTransport(request);
    const key = linkKey(peer.id.uri, instance);
    const link = new ConnectorLink({
      key,
      instance,
      id: peer.id,
      session,
      registry,
      snapshot,
      maxServices,
      onBound: (services) => onBound(peer, services),
      onDenied: (service, reason) => onDenied(peer, service, reason),
      logger,
    });
    // The same process came back before its old connection was seen to die: the new one counts.
    registry.drop(key);
    this.#links.set(key, link);
    logger.info("connector_joined", { connector: peer.id.uri, carrier: request.connection.carrier });
    try {
      await link.serve();
    } finally {
      if (this.#links.get(key) === link) this.#links.delete(key);
    }
  }

  /** Parks a connector's connection for a flow to come; false, without an answer, when it has no session here. */
  async park(request: ServerRequest, peer: Peer): Promise<boolean> {
    const instance = request.head.headers.get(INSTANCE_HEADER) ?? "";
    const link = mayOffer(peer) ? this.#links.get(linkKey(peer.id.uri, instance)) : undefined;
    if (link === undefined) return false;
    link.park(await request.respond({ status: 200 }), request.connection.closed);
    return true;
  }

  policyChanged(): void {
    for (const link of this.#links.values()) link.policyChanged();
  }

  drain(seconds: number): void {
    for (const link of this.#links.values()) link.drain(seconds);
  }
}

/** Who may offer services at all; which ones, policy says. */
function mayOffer({ id }: Peer): boolean {
  return id.kind === "connector" || id.kind === "workload";
}

function linkKey(uri: string, instance: string): string {
  return `${uri}#${instance}`;
}
