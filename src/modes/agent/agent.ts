/**
 * Mode `agent`: makes services reachable on the user's machine: by name, as policy grants them; by port forwards, SOCKS5
 * and an HTTP proxy, none of which needs a privilege; and by an IP tunnel, which does.
 */

import { formatHostPort, type HostPort } from "../../base/address.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import { type AgentConfig, type AgentServicesConfig, servicesOf } from "../../config/schema/agent.ts";
import type { AgentTunnelConfig } from "../../config/schema/tunnel.ts";
import { ResolverLayers } from "../../io/network/resolver_layers.ts";
import { RouteSiblings } from "../../io/network/route_siblings.ts";
import { undoResolverLeftovers } from "../../io/network/resolver_leftovers.ts";
import { HealthServer } from "../../telemetry/health.ts";
import type { ModeContext, Running } from "../running.ts";
import type { ControlSocket } from "../shared/control_socket.ts";
import { Node, type NodeChange } from "../shared/node.ts";
import { nodeStatus } from "../shared/node_status.ts";
import { openControl } from "../shared/open_control.ts";
import { type AgentStatus, partProblems, type PartStatus, serviceStatuses } from "./agent_status.ts";
import { FlowDialer } from "./flow_dialer.ts";
import { handleForward } from "./forward.ts";
import { type FrontEnd, startFrontEnd } from "./front_end.ts";
import { handleHttpProxy } from "./http_proxy.ts";
import { LiveCatalogue } from "./live_catalogue.ts";
import type { ConnectDatagrams, ConnectFlow } from "./local_flow.ts";
import { catalogueResolver } from "./local_targets.ts";
import { LocalServices } from "./local_services.ts";
import { SessionPool } from "./sessions.ts";
import { handleSocks5 } from "./socks5.ts";
import type { SocksContext } from "./socks5_udp.ts";
import { IpTunnel } from "./tunnel/ip_tunnel.ts";
import { proxyOpener, relayOpener } from "./tunnel/open_tunnel.ts";

/** Starts an agent; it runs even while no relay can be reached. */
export async function runAgent(config: AgentConfig, context: ModeContext): Promise<Running> {
  const { logger } = context;
  // Before any relay is looked up by name: with what a killed agent left nobody answers.
  await undoResolverLeftovers({ logger });
  const node = await Node.create(config, { logger });
  const health = config.health === null
    ? undefined
    : await HealthServer.start({ address: config.health, logger });
  const agent = new Agent(node, { config, health });
  try {
    agent.listen(config);
    const services = servicesOf(config);
    if (services !== undefined) await agent.startServices(services);
    if (config.tunnel !== undefined) await agent.startTunnel(config.tunnel);
    await agent.openControl();
  } catch (error) {
    await agent.shutdown("listening failed");
    throw error;
  }
  return agent;
}

class Agent implements Running {
  readonly closed: Promise<void>;
  readonly #node: Node;
  readonly #config: AgentConfig;
  readonly #health: HealthServer | undefined;
  readonly #sessions: SessionPool;
  readonly #dialer: FlowDialer;
  readonly #catalogue: LiveCatalogue;
  readonly #connect: ConnectFlow = (target, options) => this.#dialer.connect(target, options);
  readonly #connectDatagrams: ConnectDatagrams = (target, options) =>
    this.#dialer.connectDatagrams(target, options);
  readonly #frontEnds: { readonly name: string; readonly frontEnd: FrontEnd }[] = [];
  /** What the agent does beside opening flows, and how that is. */
  readonly #parts = new Map<string, () => PartStatus>();
  #control: ControlSocket | undefined;
  /** Tunnel and services may both want to be asked for names, and relays outside of them. */
  readonly #shared = { resolverLayers: new ResolverLayers(), routeSiblings: new RouteSiblings() };
  #services: LocalServices | undefined;
  #tunnel: IpTunnel | undefined;
  #stopping: Promise<void> | undefined;
  #resolveClosed: () => void = () => {};

  constructor(
    node: Node,
    { config, health }: { readonly config: AgentConfig; readonly health: HealthServer | undefined },
  ) {
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
    this.#node = node;
    this.#config = config;
    this.#health = health;
    const { logger, views } = node;
    this.#sessions = new SessionPool({ identity: () => node.identity, trust: () => node.trust(), logger });
    node.onChange((change) => this.#identityChanged(change));
    this.#dialer = new FlowDialer({ relays: () => node.clients, views, sessions: this.#sessions, logger });
    const { ipv4, ipv6 } = servicesOf(config) ?? {};
    this.#catalogue = new LiveCatalogue({ views, pools: { ipv4, ipv6 } });
    node.connect(() => ({
      onConnected: () => {
        this.#health?.setReady();
        this.#tunnel?.relaysChanged();
        return Promise.resolve();
      },
      onLost: () => {
        this.#tunnel?.relaysChanged();
        if (node.clients.every((client) => client.connection === undefined)) {
          this.#health?.setUnready("no relay connected");
        }
      },
    }));
  }

  /** Opens every local listener of the config; throws when one cannot be bound. */
  listen(config: AgentConfig): void {
    for (const { listen, service, port } of config.forwards) {
      const target = port === undefined ? { service } : { service, port };
      this.#serve(listen, {
        name: `forward to ${service}`,
        handle: (client, context) => handleForward(client, target, context),
      });
    }
    if (config.socks5 !== undefined) this.#serve(config.socks5, { name: "socks5", handle: handleSocks5 });
    if (config.httpProxy !== undefined) {
      this.#serve(config.httpProxy, { name: "http_proxy", handle: handleHttpProxy });
    }
    this.#node.logger.info("agent_started", { agent: this.#node.identity.id.uri });
  }

  /** Makes the services appear on this machine, as they come and go. */
  async startServices(config: AgentServicesConfig): Promise<void> {
    this.#services = await LocalServices.start({
      config,
      allowRemoteClients: this.#config.allowRemoteClients,
      catalogue: this.#catalogue,
      connect: this.#connect,
      connectDatagrams: this.#connectDatagrams,
      trustDomain: this.#node.identity.trust.domain,
      relays: () => this.#node.relays.map(({ address }) => address),
      shared: this.#shared,
      logger: this.#node.logger,
    });
  }

  /** Opens the socket at which `ginnel status` asks. */
  async openControl(): Promise<void> {
    const { logger, identity: { id } } = this.#node;
    const status = () => this.#status();
    this.#control = await openControl({ address: this.#config.control, id, status, logger });
  }

  /** Makes the IP tunnel; rejects with what is missing for it. */
  async startTunnel(config: AgentTunnelConfig): Promise<void> {
    const { logger } = this.#node;
    const { proxy, dialect } = config;
    let isUp = false;
    this.#parts.set("tunnel", () => ({
      state: isUp ? "on" : "failed",
      detail: `${config.interface} ${isUp ? "carries packets" : "is down"}`,
    }));
    this.#tunnel = await IpTunnel.start({
      config,
      relays: () => proxy === undefined ? this.#node.relays.map(({ address }) => address) : [proxy.address],
      opener: proxy === undefined
        ? relayOpener(() => this.#node.clients, config)
        : proxyOpener(proxy, { dialect, logger }),
      nameServers: () => this.#services?.nameServers ?? [],
      beside: this.#services?.interfaces ?? [],
      shared: this.#shared,
      logger,
      onChange: (isUpNow) => {
        isUp = isUpNow;
        if (this.#node.clients.length > 0) return;
        if (isUp) this.#health?.setReady();
        else this.#health?.setUnready("the tunnel is down");
      },
    });
  }

  reload(): Promise<void> {
    return this.#node.reload();
  }

  shutdown(reason: string): Promise<void> {
    return this.#stopping ??= this.#shutDown(reason);
  }

  #serve(
    listen: HostPort,
    { name, handle }: {
      readonly name: string;
      readonly handle: (client: ByteChannel, context: SocksContext) => Promise<void>;
    },
  ): void {
    const { logger } = this.#node;
    const common = {
      connect: this.#connect,
      connectDatagrams: this.#connectDatagrams,
      targetOf: catalogueResolver(
        () => this.#catalogue.current,
        (address) => this.#services?.nameOf(address),
      ),
      logger,
    };
    const frontEnd = startFrontEnd({
      listen,
      name,
      logger,
      handle: (client, signal, ends) => handle(client, { ...common, signal, ends }),
    });
    this.#frontEnds.push({ name, frontEnd });
  }

  async #status(): Promise<AgentStatus> {
    const others = Object.fromEntries([...this.#parts].map(([name, tell]) => [name, tell()]));
    const parts = { ...this.#services?.status(), ...others };
    const zone = this.#catalogue.current?.network.zone;
    const places = this.#services?.places() ?? new Map();
    return {
      mode: "agent",
      ...await nodeStatus(this.#node, { config: this.#config, more: partProblems(parts) }),
      ...(zone !== undefined && { zone }),
      services: serviceStatuses({ catalogue: this.#catalogue, usage: this.#dialer.usage, places }),
      listeners: this.#frontEnds.map(({ name, frontEnd }) => ({
        name,
        address: formatHostPort(frontEnd.address),
      })),
      parts,
    };
  }

  #identityChanged({ certificate, trust, relays }: NodeChange): void {
    if (certificate) this.#sessions.renew();
    if (trust) this.#sessions.recheck();
    if (!relays) return;
    void this.#services?.relayListChanged();
    this.#tunnel?.relayListChanged().catch((error) => {
      this.#node.logger.warn("tunnel_pins_not_refreshed", { detail: errorMessage(error) });
    });
  }

  async #shutDown(reason: string): Promise<void> {
    const { logger } = this.#node;
    logger.info("agent_stopping", { reason });
    this.#health?.setUnready("stopping");
    await this.#control?.close();
    this.#catalogue.close();
    const stopped = new Error("agent stopped");
    await Promise.all(this.#frontEnds.map(({ frontEnd }) => frontEnd.close(stopped)));
    await this.#services?.close();
    await this.#tunnel?.close();
    this.#dialer.close();
    this.#sessions.close("agent stopped");
    await this.#node.close();
    await this.#health?.close();
    logger.info("agent_stopped", {});
    this.#resolveClosed();
  }
}
