/**
 * The IP tunnel of an agent: makes the interface, keeps a connect-ip request open to a relay or to a foreign proxy, and
 * routes into the tunnel what it leads to. A link that breaks is replaced; interface and routes stay meanwhile.
 */

import { setImmediate } from "node:timers";
import type { HostPort } from "../../../base/address.ts";
import { backoffDelay, sleep } from "../../../base/async.ts";
import { errorCode, errorMessage, GinnelError, ProtocolError } from "../../../base/errors.ts";
import { formatIp, type IpAddress, ipBits, type IpPrefix, prefixContains } from "../../../base/ip.ts";
import type { Logger } from "../../../base/log.ts";
import type { AgentTunnelConfig } from "../../../config/schema/tunnel.ts";
import { RouteSet } from "../../../core/route_set.ts";
import { TunnelClient } from "../../../dataplane/tunnel/client.ts";
import { ConnectIp, MIN_MTU } from "../../../dataplane/tunnel/connect_ip.ts";
import type { PacketDevice } from "../../../dataplane/tunnel/packet_device.ts";
import { ChangeWatch } from "../../../io/network/change_watch.ts";
import { HostNetwork, type SharedNetwork } from "../../../io/network/host_network.ts";
import { readMark, readResolvConf } from "../../../io/network/resolv_conf.ts";
import { openTun } from "../../../io/tun/device.ts";
import { type AssignedAddress, isRefusedAddress } from "../../../wire/capsule/connect_ip.ts";
import type { OpenedTunnel, TunnelOpener } from "./open_tunnel.ts";
import { RelayAddresses } from "./relay_addresses.ts";
import { SilenceWatch } from "./silence.ts";
import { prefixesFor } from "./tunnel_routes.ts";

/** What a tunnel needs of its agent. */
export interface IpTunnelOptions {
  readonly config: AgentTunnelConfig;
  /** Whom the tunnel must never swallow. */
  readonly relays: () => readonly HostPort[];
  readonly opener: TunnelOpener;
  /** The name servers behind our own resolver, where this agent has one. */
  readonly nameServers?: () => readonly IpAddress[];
  /** What this agent's interfaces share. */
  readonly shared?: SharedNetwork;
  /** The agent's other interfaces, which a kill switch leaves alone. */
  readonly beside?: readonly string[];
  readonly logger: Logger;
  /** The tunnel carries packets, or does not any more. */
  readonly onChange?: (isUp: boolean) => void;
}

/** Milliseconds that a request may take to be answered. */
const OPEN_TIMEOUT = 10_000;

/** Milliseconds without an address after which we ask for one: most peers assign without being asked. */
const PATIENCE = 2_000;

/** A link that lived this long (ms) resets the back-off. */
const STABLE = 10_000;

/** Milliseconds that a peer has to take leave. */
const LEAVE = 250;

/** Milliseconds between looks at the MTU and at the machine's network. */
const TICK = 1_000;

/** Ticks without a link between two looks at the way to the relays. */
const DOWN_TICKS = 3;

/** One agent's tunnel. */
export class IpTunnel {
  readonly #options: IpTunnelOptions;
  readonly #network: HostNetwork;
  readonly #client: TunnelClient;
  readonly #addresses: RelayAddresses;
  readonly #stop = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #running: Promise<unknown>;
  readonly #changes: ChangeWatch;
  #assigned: readonly IpAddress[] = [];
  /** What the peer of this link leads to; undefined until it has said so. */
  #advertised: RouteSet | undefined;
  /** What is led into the tunnel, from the first link on. */
  #wanted: readonly IpPrefix[] | undefined;
  /** What is kept out of the tunnel. */
  #ledAround = "";
  #applying: Promise<void> = Promise.resolve();
  #isFollowing = false;
  #ticks = 0;
  #link: ConnectIp | undefined;
  readonly #silence = new SilenceWatch();
  /** The link that carries packets. */
  #carrying: ConnectIp | undefined;
  /** Changes that the peer told of and the kernel does not know yet. */
  #pending = 0;
  /** Cuts the back-off short. */
  #wake: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  /** Makes the interface and starts to connect; rejects with an error that says what is missing. */
  static async start(options: IpTunnelOptions): Promise<IpTunnel> {
    const { config, logger } = options;
    await using undo = new AsyncDisposableStack();
    const network = undo.use(
      await HostNetwork.open(config.interface, {
        logger,
        keepKillSwitch: config.killSwitch,
        ...options.shared,
      }),
    );
    const device = openTun({ name: config.interface, mtu: MIN_MTU });
    undo.defer(() => device.close());
    const addresses = new RelayAddresses(options.relays);
    addresses.useNameServers(await systemNameServers(options));
    const tunnel = new IpTunnel(options, { network, device, addresses });
    undo.move();
    try {
      // Before anything else: from here on nothing leaves by another way.
      await tunnel.#guard();
    } catch (error) {
      await tunnel.close();
      throw error;
    }
    return tunnel;
  }

  private constructor(
    options: IpTunnelOptions,
    parts: {
      readonly network: HostNetwork;
      readonly device: PacketDevice;
      readonly addresses: RelayAddresses;
    },
  ) {
    const { logger, config } = options;
    this.#options = options;
    this.#network = parts.network;
    this.#addresses = parts.addresses;
    this.#changes = new ChangeWatch({ logger });
    this.#client = new TunnelClient({
      device: parts.device,
      schedule: setImmediate,
      now: Date.now,
      onError: (error) => logger.error("tunnel_failed", { detail: errorMessage(error) }),
    });
    const serving = this.#client.run().catch((error) => {
      logger.error("tunnel_device_failed", { interface: config.interface, detail: errorMessage(error) });
    });
    this.#running = Promise.all([serving, this.#connectForEver()]);
    this.#timer = setInterval(() => this.#tick(), TICK);
  }

  /** A relay came or went: tries again at once, or moves from one that takes no more work. */
  relaysChanged(): void {
    if (this.#options.opener.shouldMove()) this.#link?.abort();
    this.#wake?.();
  }

  /** Other relays are listed: the way to them, too, stays outside the tunnel. */
  async relayListChanged(): Promise<void> {
    await this.#addresses.refresh();
    if (this.#stop.signal.aborted || String(this.#addresses) === this.#ledAround) return;
    this.#applying = this.#applying.catch(ignore).then(() => this.#lead());
    await this.#applying;
  }

  /** Ends the tunnel and takes back what was set up. Idempotent. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #connectForEver(): Promise<void> {
    const { signal } = this.#stop;
    await this.#addresses.refresh();
    await this.#guard().catch((error) => {
      this.#options.logger.error("tunnel_network_failed", { detail: errorMessage(error) });
    });
    for (let attempt = 0; !signal.aborted; attempt++) {
      const started = performance.now();
      let isAsked = true;
      try {
        await this.#connectOnce();
      } catch (error) {
        if (signal.aborted) return;
        isAsked = errorCode(error) !== "ERR_RELAY_DOWN";
        const detail = errorMessage(error);
        // What the peer does against the protocol will not mend itself.
        if (error instanceof ProtocolError) this.#options.logger.warn("tunnel_broken", { attempt, detail });
        else this.#options.logger.debug("tunnel_down", { attempt, detail });
      }
      if (performance.now() - started > STABLE) attempt = 0;
      await this.#backOff(attempt);
      // While there is nobody to ask, nobody is asked too often.
      if (!isAsked) attempt--;
    }
  }

  async #connectOnce(): Promise<void> {
    const timeout = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(OPEN_TIMEOUT)]);
    const opened = await this.#options.opener.open(timeout);
    try {
      await this.#carry(opened);
    } finally {
      opened.release();
    }
  }

  async #carry({ exchange: { head, body, datagrams } }: OpenedTunnel): Promise<void> {
    const { config, logger, onChange } = this.#options;
    if (head.status < 200 || head.status > 299) {
      body.abort();
      const reason = head.headers.get("proxy-status") ?? "no reason given";
      logger.warn("tunnel_refused", { status: head.status, reason });
      throw new GinnelError("ERR_TUNNEL_REFUSED", `Tunnel refused: ${head.status} (${reason})`);
    }
    const isZgate = config.dialect === "zgate";
    const link: ConnectIp = new ConnectIp({
      body,
      datagrams,
      dialect: config.dialect,
      expectsAssign: isZgate,
      onPacket: (packet) => this.#client.receive(packet),
      onAssign: (list) => this.#changed(link, () => this.#assign(list)),
      onRoutes: isZgate
        ? ignore
        : (list) => this.#changed(link, () => this.#advertised = RouteSet.from(list)),
    });
    this.#assigned = [];
    // The zgate dialect knows no routes: what the config names is what there is.
    this.#advertised = isZgate ? everything() : undefined;
    this.#link = link;
    const asking = setTimeout(() => this.#ask(link), PATIENCE);
    const stop = () => void endLink(link);
    this.#stop.signal.addEventListener("abort", stop);
    try {
      await link.run();
    } finally {
      clearTimeout(asking);
      this.#stop.signal.removeEventListener("abort", stop);
      link.abort();
      if (this.#link === link) this.#link = undefined;
      this.#carrying = undefined;
      this.#client.setLink(undefined);
      logger.info("tunnel_lost", {});
      onChange?.(false);
    }
  }

  #assign(list: readonly AssignedAddress[]): void {
    const granted = list.filter((entry) => !isRefusedAddress(entry));
    this.#assigned = granted.map(({ address }) => address);
  }

  /** Asks a peer that has assigned nothing for one address of each version (RFC 9484 §4.7.2). */
  #ask(link: ConnectIp): void {
    if (this.#link !== link || this.#assigned.length > 0 || this.#options.config.dialect === "zgate") return;
    const wishes = ([4, 6] as const).map((version, index) => ({
      requestId: index + 1,
      address: { version, value: 0n },
      prefixLength: ipBits(version),
    }));
    link.sendRequest(wishes).catch(ignore);
  }

  /** Takes in what the peer said, and brings the kernel in line, one change after the other. */
  #changed(link: ConnectIp, change: () => void): void {
    if (this.#link !== link) return;
    change();
    this.#pending++;
    if (this.#carrying === link) this.#client.holdAnswers();
    this.#applying = this.#applying.then(() => this.#apply(link)).catch((error) => {
      this.#options.logger.error("tunnel_network_failed", { detail: errorMessage(error) });
    }).finally(() => {
      if (--this.#pending === 0) this.#client.releaseAnswers();
    });
  }

  async #apply(link: ConnectIp): Promise<void> {
    const routes = this.#advertised;
    const addresses = this.#assigned;
    if (this.#link !== link || routes === undefined || addresses.length === 0) return;
    const { config, logger, onChange } = this.#options;
    await this.#network.interface.apply({
      addresses: addresses.map((address) => ({ address, prefixLength: ipBits(address.version) })),
      mtu: link.mtu,
      up: true,
      prefixRoute: false,
    });
    const wanted = prefixesFor(config.routes, { advertised: routes, dns: config.dns });
    this.#wanted = wanted;
    const isNew = this.#carrying !== link;
    // Later on names may be asked through the tunnel, whose answers wait for us.
    if (isNew) await this.#addresses.refresh();
    await this.#lead();
    const reachable = config.dns.filter((server) => wanted.some((prefix) => prefixContains(prefix, server)));
    await this.#network.dns.apply(reachable);
    if (this.#link !== link) return;
    this.#client.setAddresses(addresses);
    this.#client.setRoutes(routes);
    logger.debug("tunnel_addresses", { addresses: addresses.map(formatIp), routes: wanted.length });
    if (!isNew) return;
    this.#client.setLink(link);
    this.#carrying = link;
    logger.info("tunnel_up", { interface: config.interface, routes: wanted.length });
    onChange?.(true);
  }

  /** Leads what is wanted into the tunnel, and nowhere else where that is configured; the relays stay outside. */
  async #lead(): Promise<void> {
    const wanted = this.#wanted;
    this.#ledAround = String(this.#addresses);
    const relays = this.#addresses.endpoints().map(({ address }) => address);
    const pins = relays.filter((address) => wanted?.some((prefix) => prefixContains(prefix, address)));
    if (wanted !== undefined) await this.#network.routes.apply(wanted, pins);
    await this.#guard();
  }

  /** Puts the kill switch in force, for all that is known to belong in the tunnel. */
  async #guard(): Promise<void> {
    const { config, beside = [] } = this.#options;
    if (!config.killSwitch) return;
    // What a split tunnel leads to is not known before the first link; until then a switch left in force stays.
    if (config.routes === "advertised" && this.#wanted === undefined) return;
    const wanted = this.#wanted ?? [];
    const routes = typeof config.routes === "string" ? wanted : [...config.routes, ...wanted];
    const relays = this.#addresses.endpoints();
    await this.#network.killSwitch.apply({
      routes: config.routes === "full" ? "full" : routes,
      relays,
      beside,
    });
  }

  #tick(): void {
    this.#client.tick();
    if (this.#carrying !== undefined && this.#silence.isSuspicious(this.#client.counters)) {
      this.#options.opener.check();
    }
    const isOverdue = this.#link === undefined && ++this.#ticks % DOWN_TICKS === 0;
    if ((!this.#changes.take() && !isOverdue) || this.#isFollowing) return;
    this.#isFollowing = true;
    this.#follow().catch((error) => {
      this.#options.logger.warn("tunnel_pins_not_refreshed", { detail: errorMessage(error) });
    }).finally(() => this.#isFollowing = false);
  }

  /** The way to the relays may have changed with the network, and while they do not answer their addresses too. */
  async #follow(): Promise<void> {
    // First the way to where they were: the name servers may need it.
    await this.#network.routes.refreshPins();
    if (this.#link !== undefined) return;
    // While names are asked of the tunnel's servers, the system's own cannot be read there.
    if (this.#options.config.dns.length === 0) {
      this.#addresses.useNameServers(await systemNameServers(this.#options));
    }
    await this.#addresses.refresh();
    if (this.#stop.signal.aborted || String(this.#addresses) === this.#ledAround) return;
    this.#applying = this.#applying.catch(ignore).then(() => this.#lead());
    await this.#applying;
  }

  async #backOff(attempt: number): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    const signal = AbortSignal.any([this.#stop.signal, woken.signal]);
    await sleep(backoffDelay(attempt, Math.random()), { signal }).catch(ignore);
    this.#wake = undefined;
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    this.#changes[Symbol.dispose]();
    this.#stop.abort();
    this.#client.close();
    await this.#options.opener.close();
    await this.#running.catch(ignore);
    await this.#applying;
    await this.#network.close().catch((error) => {
      this.#options.logger.error("tunnel_network_left", { detail: errorMessage(error) });
    });
  }
}

/** Takes leave of the peer, which has a moment to do the same. */
async function endLink(link: ConnectIp): Promise<void> {
  await link.close().catch(ignore);
  await sleep(LEAVE);
  link.abort();
}

function everything(): RouteSet {
  return RouteSet.from(([4, 6] as const).map((version) => ({
    range: { version, first: 0n, last: (1n << BigInt(ipBits(version))) - 1n },
    protocol: 0,
  })));
}

/** The servers that know relays' names. Our own resolver is none: a route past the tunnel would lead past it too. */
async function systemNameServers({ nameServers }: IpTunnelOptions): Promise<readonly IpAddress[]> {
  const behind = nameServers?.() ?? [];
  if (behind.length > 0) return behind;
  const text = await Deno.readTextFile("/etc/resolv.conf").catch(() => "");
  return readMark(text) === undefined ? readResolvConf(text).servers : [];
}

function ignore(): void {}
