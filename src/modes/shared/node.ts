/**
 * What connector and agent have in common: an identity that is kept up to date, one QUIC endpoint, one view, and a
 * client for every relay: those of the config, or those the network lists.
 */

import { formatHostPort } from "../../base/address.ts";
import type { Logger } from "../../base/log.ts";
import type { NodeIdentity } from "../../config/schema/common.ts";
import type { ClientConnection } from "../../dataplane/carrier.ts";
import type { SessionTrust } from "../../dataplane/session_trust.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { relayServerName } from "../../identity/spiffe_id.ts";
import { QuicDialer } from "../../io/quic/dialer.ts";
import { NameMemory } from "../../io/system/name_memory.ts";
import { dialTls } from "../../io/tls/dialer.ts";
import { CertificateRenewer } from "../enrol/certificate_renewer.ts";
import { loginRenewal, reviveLogin } from "../login/login_renewal.ts";
import { type IdentityChange, IdentitySource } from "./identity_source.ts";
import { listedRelays } from "./listed_relays.ts";
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
  /** The relay is listed no more; it was lost before this. */
  readonly onRemoved?: () => void;
}

/** What a mode does when the node's identity changes. */
export type NodeChange = Omit<IdentityChange, "authorities">;

/** A node's identity and its ways to the relays. */
export class Node {
  readonly views: ViewHolder;
  readonly logger: Logger;
  readonly #config: NodeConfig;
  readonly #dialer: QuicDialer;
  readonly #names = new NameMemory();
  readonly #resolve = (name: string) => this.#names.lookUp(name);
  readonly #source: IdentitySource;
  readonly #listeners = new Set<(change: NodeChange) => void>();
  #relays: readonly ListedRelay[] = [];
  #events: EventsOf | undefined;
  #renewer: CertificateRenewer | undefined;
  #revoked: ReadonlySet<string>;
  #isClosed = false;

  private constructor(
    config: NodeConfig,
    parts: { readonly source: IdentitySource; readonly logger: Logger },
  ) {
    const { source, logger } = parts;
    this.#config = config;
    this.#source = source;
    this.logger = logger;
    this.#revoked = new Set(source.current.network?.revoked);
    this.#dialer = new QuicDialer({ logger, resolve: this.#resolve });
    this.views = new ViewHolder({ identity: () => source.current, logger });
    source.onChange((change) => this.#changed(change));
  }

  static async create(config: NodeConfig, options: { readonly logger: Logger }): Promise<Node> {
    const { logger } = options;
    if (typeof config.identity === "string") await reviveLogin(config.identity, { logger });
    const node = new Node(config, { source: await IdentitySource.open(config.identity, { logger }), logger });
    // An SVID is renewed by others.
    if (typeof config.identity === "string") node.#renewer = await node.#startRenewer(config.identity);
    return node;
  }

  get identity(): Identity {
    return this.#source.current;
  }

  /** The clients made by {@linkcode connect}, in the order in which the relays are listed. */
  get clients(): readonly RelayClient[] {
    return this.#relays.map(({ client }) => client);
  }

  /** The relays in use. */
  get relays(): readonly RelayAddress[] {
    const { relays } = this.#config;
    return relays.length > 0 ? relays : listedRelays(this.identity);
  }

  /** Whom to trust at the other end of a session, as of now. */
  trust(): SessionTrust {
    const { domain, roots, foreign } = this.identity.trust;
    return { domain, roots, foreign, isRevoked: ({ serial }) => this.#revoked.has(serial) };
  }

  /** Calls back when certificate, trust or the list of relays has changed. */
  onChange(listener: (change: NodeChange) => void): void {
    this.#listeners.add(listener);
  }

  /** Starts a client for every relay, and for those that come to be listed. */
  connect(events: EventsOf): void {
    this.#events = events;
    this.#followRelays();
    if (this.#relays.length === 0) this.logger.warn("no_relays_known", { identity: this.identity.id.uri });
  }

  /** Reads the identity again; new connections and sessions use it, living ones are renewed. */
  reload(): Promise<void> {
    return this.#source.reload();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#renewer?.[Symbol.asyncDispose]();
    await this.#source.close();
    this.views.close();
    await Promise.all(this.clients.map((client) => client.close()));
    await this.#dialer[Symbol.asyncDispose]();
  }

  /** A user's certificate is renewed by its login, everybody else's by itself. */
  async #startRenewer(path: string): Promise<CertificateRenewer> {
    const identity = () => this.identity;
    return new CertificateRenewer({
      path,
      identity,
      logger: this.logger,
      onRenewed: () => this.#source.reload(),
      ...await loginRenewal(path, identity),
    });
  }

  #changed(change: IdentityChange): void {
    if (this.#isClosed) return;
    if (change.trust) this.#revoked = new Set(this.identity.network?.revoked);
    if (change.certificate || change.trust) this.#renewer?.check();
    if (change.authorities) void this.views.recheck();
    if (change.certificate) { for (const client of this.clients) void client.renew(); }
    if (change.relays) this.#followRelays();
    for (const listener of this.#listeners) listener(change);
  }

  /** Starts clients of relays that are new on the list, ends those that are not on it any more. */
  #followRelays(): void {
    if (this.#events === undefined) return;
    const before = new Map(this.#relays.map((listed) => [listed.key, listed]));
    const added: ListedRelay[] = [];
    const wanted = new Map(
      this.relays.map((relay) => [`${relay.name} ${formatHostPort(relay.address)}`, relay]),
    );
    this.#relays = [...wanted].map(([key, relay]) => {
      const known = before.get(key);
      before.delete(key);
      if (known !== undefined) return known;
      const listed = this.#list(relay, { key, eventsOf: this.#events! });
      added.push(listed);
      return listed;
    });
    for (const { client, events } of before.values()) {
      this.logger.info("relay_unlisted", { relay: client.name });
      void client.close().then(() => events.onRemoved?.());
    }
    // Only now: who looks at the clients finds them all.
    for (const { client } of added) void client.run();
  }

  #list(relay: RelayAddress, { key, eventsOf }: { key: string; eventsOf: EventsOf }): ListedRelay {
    const { logger } = this;
    const events = eventsOf(() => client);
    const client: RelayClient = new RelayClient({
      relay,
      identity: () => this.identity,
      dialer: this.#dialer,
      views: this.views,
      tls: new TlsCarrier({
        choice: this.#config.carrier,
        dial: (signal) =>
          dialTls({
            address: relay.address,
            serverName: relayServerName(relay.name),
            roots: this.identity.trust.roots,
            signal,
            resolve: this.#resolve,
          }),
        logger: logger.with({ relay: relay.name }),
      }),
      logger,
      onNetwork: (jws) => this.#source.acceptNetwork(jws, relay.name),
      onConnected: events.onConnected,
      onLost: events.onLost,
    });
    return { key, client, events };
  }
}

/** Makes the events of one relay, whose client is there once this has returned. */
type EventsOf = (client: () => RelayClient) => RelayEvents;

interface ListedRelay {
  /** Name and address: a relay that moved is another one to us. */
  readonly key: string;
  readonly client: RelayClient;
  readonly events: RelayEvents;
}
