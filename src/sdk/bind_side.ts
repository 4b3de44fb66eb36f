/**
 * The services that this process offers: its reverse sessions at the relays, made when there is the first to offer,
 * and the flows that come in by them.
 */

import { errorMessage, GinnelError } from "../base/errors.ts";
import type { ClientConnection } from "../dataplane/carrier.ts";
import { FlowServer } from "../modes/connector/flow_server.ts";
import { RelayLink } from "../modes/connector/relay_link.ts";
import type { Node, RelayEvents } from "../modes/shared/node.ts";
import type { RelayClient } from "../modes/shared/relay_client.ts";
import { H3_NO_ERROR } from "../wire/h3/codes.ts";
import type { HandlerService } from "./handler_service.ts";

/** All that one identity offers from one process. */
export class BindSide {
  readonly #node: Node;
  readonly #services = new Map<string, HandlerService>();
  readonly #flows: FlowServer;
  readonly #sites = new Set<Site>();
  /** Tells this process apart from others of the same identity. */
  readonly #instance = crypto.randomUUID();
  readonly #waiting = new Map<string, () => void>();

  constructor(node: Node) {
    this.#node = node;
    const { views, logger } = node;
    this.#flows = new FlowServer({
      identity: () => node.identity,
      trust: () => node.trust(),
      views,
      services: this.#services,
      logger,
    });
  }

  /** What a relay's coming and going means here. */
  relay(client: () => RelayClient): Required<RelayEvents> {
    const link = new RelayLink({
      client,
      instance: this.#instance,
      services: this.#services,
      flows: this.#flows,
      onBound: (service) => this.#waiting.get(service)?.(),
      logger: this.#node.logger,
    });
    const site: Site = { link, connection: undefined, isLinked: false };
    this.#sites.add(site);
    return {
      onConnected: async (connection) => {
        site.connection = connection;
        if (this.#services.size === 0) return;
        site.isLinked = true;
        await link.connected(connection);
      },
      onLost: () => {
        site.connection = undefined;
        site.isLinked = false;
        link.lost();
      },
      onRemoved: () => void this.#sites.delete(site),
    };
  }

  /** Offers a service at every relay; `onBound` runs each time a relay has taken it. */
  add(service: HandlerService, onBound: () => void): void {
    if (this.#services.has(service.name)) {
      throw new GinnelError("ERR_ALREADY_SERVED", `This process serves ${service.name} already`);
    }
    this.#services.set(service.name, service);
    this.#waiting.set(service.name, onBound);
    for (const site of this.#sites) {
      if (site.isLinked) site.link.offer([service]);
      else if (site.connection !== undefined) void this.#join(site, site.connection);
    }
  }

  /** Offers a service no longer; its flows go on. */
  remove(name: string): void {
    if (!this.#services.delete(name)) return;
    this.#waiting.delete(name);
    for (const { link, isLinked } of this.#sites) if (isLinked) link.withdraw([name]);
  }

  /** We hold a newer certificate. */
  renew(): void {
    this.#flows.renew();
  }

  /** Trust has changed. */
  recheck(): void {
    this.#flows.recheck();
  }

  close(reason: string): void {
    this.#flows.close(reason);
  }

  async #join(site: Site, connection: ClientConnection): Promise<void> {
    site.isLinked = true;
    try {
      await site.link.connected(connection);
    } catch (error) {
      this.#node.logger.warn("relay_takes_no_services", { detail: errorMessage(error) });
      // Tried again on the next connection.
      await connection.close(H3_NO_ERROR, "no session for services");
    }
  }
}

/** One relay. */
interface Site {
  readonly link: RelayLink;
  connection: ClientConnection | undefined;
  /** Whether there is a session for services, or one is being made. */
  isLinked: boolean;
}
