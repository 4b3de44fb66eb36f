/**
 * Mode `connector`: dials out to every relay, offers services, and pipes authorized flows to their upstreams. It
 * listens nowhere.
 */

import { sleep } from "../../base/async.ts";
import type { ConnectorConfig } from "../../config/schema/connector.ts";
import { HealthServer } from "../../telemetry/health.ts";
import type { ModeContext, Running } from "../running.ts";
import type { ControlSocket } from "../shared/control_socket.ts";
import { Node } from "../shared/node.ts";
import { nodeStatus } from "../shared/node_status.ts";
import { openControl } from "../shared/open_control.ts";
import type { ConnectorStatus } from "./connector_status.ts";
import { FlowServer } from "./flow_server.ts";
import { Hosting } from "./hosting.ts";
import { HostingReach } from "./hosting_reach.ts";
import { RelayLink } from "./relay_link.ts";
import { ConfiguredService, type OfferedService } from "./services.ts";

/** Seconds that running flows get after a stop was asked for. */
const DRAIN_SECONDS = 30;

/** Starts a connector; it runs even while no relay can be reached. */
export async function runConnector(config: ConnectorConfig, context: ModeContext): Promise<Running> {
  const { logger } = context;
  const node = await Node.create(config, { logger });
  const health = config.health === null
    ? undefined
    : await HealthServer.start({ address: config.health, logger });
  const connector = new Connector(config, { node, health });
  try {
    await connector.openControl();
  } catch (error) {
    await connector.shutdown("listening failed");
    throw error;
  }
  return connector;
}

class Connector implements Running {
  readonly closed: Promise<void>;
  readonly #node: Node;
  readonly #config: ConnectorConfig;
  readonly #services: ReadonlyMap<string, OfferedService>;
  readonly #health: HealthServer | undefined;
  readonly #flows: FlowServer;
  readonly #hosting: Hosting | undefined;
  readonly #links = new Set<RelayLink>();
  readonly #stop = new AbortController();
  #control: ControlSocket | undefined;
  #stopping: Promise<void> | undefined;
  #resolveClosed: () => void = () => {};

  constructor(
    config: ConnectorConfig,
    parts: { readonly node: Node; readonly health: HealthServer | undefined },
  ) {
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
    const { node, health } = parts;
    this.#node = node;
    this.#config = config;
    this.#health = health;
    const { logger } = node;
    const configured = config.services.map((service) => new ConfiguredService(service, node.views));
    const services = new Map<string, OfferedService>(configured.map((service) => [service.name, service]));
    this.#services = services;
    this.#flows = new FlowServer({
      identity: () => node.identity,
      trust: () => node.trust(),
      views: node.views,
      services,
      logger,
    });
    node.onChange(({ certificate, trust }) => {
      if (certificate) this.#flows.renew();
      if (trust) this.#flows.recheck();
    });
    const instance = crypto.randomUUID();
    node.connect((client) => {
      const link = new RelayLink({ client, instance, services, flows: this.#flows, logger });
      this.#links.add(link);
      return {
        onConnected: async (connection) => {
          await link.connected(connection);
          this.#health?.setReady();
        },
        onLost: () => {
          link.lost();
          if (node.clients.every((client) => client.connection === undefined)) {
            this.#health?.setUnready("no relay connected");
          }
        },
        onRemoved: () => this.#links.delete(link),
      };
    });
    if (config.hosting !== undefined) {
      this.#hosting = new Hosting({
        views: node.views,
        reach: new HostingReach(config.hosting.allow),
        services,
        onOffered: (service) => this.#links.forEach((link) => link.offer([service])),
        onWithdrawn: (name) => this.#links.forEach((link) => link.withdraw([name])),
        onStanding: (service) => this.#links.forEach((link) => link.standingChanged(service)),
        logger,
      });
    }
    for (const service of configured) {
      void service.watch({
        signal: this.#stop.signal,
        logger,
        onChange: () => this.#links.forEach((link) => link.standingChanged(service)),
      });
    }
    logger.info("connector_started", { connector: node.identity.id.uri, services: [...services.keys()] });
  }

  /** Opens the socket at which `ginnel status` asks. */
  async openControl(): Promise<void> {
    const { logger, identity: { id } } = this.#node;
    const status = () => this.#status();
    this.#control = await openControl({ address: this.#config.control, id, status, logger });
  }

  reload(): Promise<void> {
    return this.#node.reload();
  }

  shutdown(reason: string): Promise<void> {
    return this.#stopping ??= this.#shutDown(reason);
  }

  async #status(): Promise<ConnectorStatus> {
    const services = [...this.#services.values()].map(({ name, isHealthy }) => ({
      name,
      healthy: isHealthy,
    }));
    return {
      mode: "connector",
      ...await nodeStatus(this.#node, { config: this.#config }),
      flows: this.#flows.size,
      services: services.sort((a, b) => a.name < b.name ? -1 : 1),
    };
  }

  async #shutDown(reason: string): Promise<void> {
    const { logger } = this.#node;
    logger.info("connector_draining", { reason, flows: this.#flows.size });
    this.#health?.setUnready("draining");
    this.#stop.abort();
    this.#hosting?.close();
    for (const link of this.#links) link.drain(DRAIN_SECONDS);
    const deadline = Date.now() + DRAIN_SECONDS * 1_000;
    while (this.#flows.size > 0 && Date.now() < deadline) await sleep(50);
    this.#flows.close("connector stopped");
    await this.#control?.close();
    await this.#node.close();
    await this.#health?.close();
    logger.info("connector_stopped", {});
    this.#resolveClosed();
  }
}
