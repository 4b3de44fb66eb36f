/**
 * What connector and agent have in common: an identity that can be reloaded, one QUIC endpoint, one view, and a
 * client for every relay of the config.
 */

import { errorMessage, GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { NodeIdentity } from "../../config/schema/common.ts";
import type { ClientConnection } from "../../dataplane/carrier.ts";
import { type Identity, loadIdentity } from "../../identity/identity_file.ts";
import { relayServerName } from "../../identity/spiffe_id.ts";
import { QuicDialer } from "../../io/quic/dialer.ts";
import { NameMemory } from "../../io/system/name_memory.ts";
import { dialTls } from "../../io/tls/dialer.ts";
import { type RelayAddress, RelayClient } from "./relay_client.ts";
import { type CarrierChoice, TlsCarrier } from "./tls_carrier.ts";
import { ViewHolder } from "./view_holder.ts";

/** The part of a config that makes a node. */
export interface NodeConfig {
  readonly identity: NodeIdentity;
  readonly relays: readonly RelayAddress[];
  readonly carrier: CarrierChoice;
}

/** What a mode does when a relay comes or goes. */
export interface RelayEvents {
  readonly onConnected: (connection: ClientConnection) => Promise<void>;
  readonly onLost: () => void;
}

/** A node's identity and its ways to the relays. */
export class Node {
  readonly views: ViewHolder;
  readonly logger: Logger;
  readonly #config: NodeConfig;
  readonly #dialer: QuicDialer;
  readonly #names = new NameMemory();
  readonly #resolve = (name: string) => this.#names.lookUp(name);
  readonly #clients: RelayClient[] = [];
  #identity: Identity;

  private constructor(config: NodeConfig, parts: { readonly identity: Identity; readonly logger: Logger }) {
    this.#config = config;
    this.#identity = parts.identity;
    this.logger = parts.logger;
    this.#dialer = new QuicDialer({ logger: parts.logger, resolve: this.#resolve });
    this.views = new ViewHolder(parts);
  }

  static async create(config: NodeConfig, options: { readonly logger: Logger }): Promise<Node> {
    return new Node(config, {
      identity: await loadIdentity(pathOf(config.identity)),
      logger: options.logger,
    });
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** The clients made by {@linkcode connect}, in the config's order. */
  get clients(): readonly RelayClient[] {
    return this.#clients;
  }

  /** Starts a client for every relay. */
  connect(events: (relay: RelayAddress) => RelayEvents): void {
    for (const relay of this.#config.relays) {
      const { logger } = this;
      const client = new RelayClient({
        relay,
        identity: () => this.#identity,
        dialer: this.#dialer,
        views: this.views,
        tls: new TlsCarrier({
          choice: this.#config.carrier,
          dial: (signal) =>
            dialTls({
              address: relay.address,
              serverName: relayServerName(relay.name),
              roots: this.#identity.trust.roots,
              signal,
              resolve: this.#resolve,
            }),
          logger: logger.with({ relay: relay.name }),
        }),
        logger,
        ...events(relay),
      });
      this.#clients.push(client);
      void client.run();
    }
  }

  /** Reads the identity file again; new connections and sessions use it. */
  async reload(): Promise<void> {
    try {
      this.#identity = await loadIdentity(pathOf(this.#config.identity));
      this.logger.info("identity_reloaded", { notAfter: new Date(this.#identity.notAfter).toISOString() });
    } catch (error) {
      this.logger.error("identity_not_reloaded", { detail: errorMessage(error) });
    }
  }

  async close(): Promise<void> {
    this.views.close();
    await Promise.all(this.#clients.map((client) => client.close()));
    await this.#dialer[Symbol.asyncDispose]();
  }
}

function pathOf(identity: NodeIdentity): string {
  if (typeof identity === "string") return identity;
  throw new GinnelError("ERR_SVID_UNSUPPORTED", "Cannot use an SVID's files yet");
}
