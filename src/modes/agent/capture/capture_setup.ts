/**
 * One set-up of the interface that captures: device, addresses, listeners and routes, for one choice of pools. It lives
 * until the pools change, the device is lost, or the agent ends.
 */

import { setImmediate } from "node:timers";
import { errorMessage, GinnelError } from "../../../base/errors.ts";
import {
  formatIp,
  formatPrefix,
  type IpAddress,
  ipBits,
  type IpPrefix,
  parseIp,
  parsePrefix,
  prefixContains,
} from "../../../base/ip.ts";
import type { Logger } from "../../../base/log.ts";
import type { ServiceCatalogue, ServiceNetwork } from "../../../core/service/catalogue.ts";
import { Capture, type CaptureCounts } from "../../../dataplane/capture/capture.ts";
import { CaptureAddresses } from "../../../dataplane/capture/capture_addresses.ts";
import type { CapturePorts } from "../../../dataplane/capture/capture_ports.ts";
import { AddressSet } from "../../../dataplane/tunnel/address_set.ts";
import type { HostNetwork } from "../../../io/network/host_network.ts";
import type { KernelRoute } from "../../../io/network/ip_json.ts";
import { deviceOf, freePool, ownAddresses, poolConflict } from "../../../io/network/pool_conflicts.ts";
import { listenTcp, type SocketListener } from "../../../io/tcp/listen.ts";
import { openTun } from "../../../io/tun/device.ts";

/**
 * The largest there is: TCP ends in our own kernel, and UDP of every size is to cross whole. Measured on two busy shared
 * cores, iperf3 through capture into a socket, nothing sealed: 4.9 Gbit/s at 65,535, 3.9 at 32,768, 3.4 at 16,384, 3.4 at
 * 9,000, where a forward without capture had 6 to 9; 115,000 datagrams of 1,200 bytes a second, less than 1 % lost.
 */
const MTU = 65_535;

/** Halves of everything, in place of a default route, which stays as it is. */
const HALVES = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"].map((text) => parsePrefix(text)!);

/** What a set-up needs. */
export interface CaptureSetupOptions {
  readonly network: HostNetwork;
  readonly ports: CapturePorts;
  /** Whether packets of other machines that come to the interface begin flows too. */
  readonly allowRemoteClients: boolean;
  readonly logger: Logger;
  /** The device failed; nothing is captured any more. */
  readonly onLost: () => void;
}

/** A running set-up. */
export class CaptureSetup {
  readonly pools: ServiceNetwork;
  readonly #options: CaptureSetupOptions;
  readonly #capture: Capture;
  readonly #listeners: readonly SocketListener[];
  readonly #running: Promise<unknown>;
  readonly #timer: ReturnType<typeof setInterval>;
  #closing = false;
  #isUnguarded = false;

  /** Sets all up but the routes; rejects with an error that says what is in the way. */
  static async start(pools: ServiceNetwork, options: CaptureSetupOptions): Promise<CaptureSetup> {
    const { network, ports, logger } = options;
    checkPools(pools, { routes: await network.routes.present(), interfaceName: network.name });
    await using undo = new AsyncDisposableStack();
    const device = openTun({ name: network.name, mtu: MTU });
    undo.defer(() => device.close());
    undo.defer(() => network.interface.close());
    const addresses = new CaptureAddresses(pools);
    await network.interface.apply({
      addresses: ([4, 6] as const).map((version) => ({
        address: addresses.own[version].address,
        prefixLength: ipBits(version),
      })),
      mtu: MTU,
      up: true,
      prefixRoute: false,
    });
    const listeners = listenAt(addresses, logger);
    for (const { listener } of listeners) undo.defer(() => listener.close());
    const capture = new Capture({
      device,
      addresses,
      ports,
      listeners: Object.fromEntries(
        listeners.map(({ version, listener }) => [version, listener.address.port]),
      ),
      schedule: setImmediate,
      now: () => performance.now(),
      logger,
    });
    undo.move();
    const accepting = listeners.map((entry) => acceptAll(capture, { ...entry, addresses }));
    return new CaptureSetup(pools, options, {
      capture,
      listeners: listeners.map(({ listener }) => listener),
      accepting,
    });
  }

  private constructor(pools: ServiceNetwork, options: CaptureSetupOptions, parts: SetupParts) {
    this.pools = pools;
    this.#options = options;
    this.#capture = parts.capture;
    this.#listeners = parts.listeners;
    const serving = this.#capture.run().catch((error) => {
      options.logger.error("capture_device_failed", {
        interface: options.network.name,
        detail: errorMessage(error),
      });
    }).then(() => {
      if (!this.#closing) options.onLost();
    });
    this.#running = Promise.all([serving, ...parts.accepting]);
    this.#timer = setInterval(() => this.#capture.sweep(), 1_000);
  }

  /** What is being carried. */
  get counts(): CaptureCounts {
    return this.#capture.counts;
  }

  /** Leads the pools and the services' prefixes here, past the addresses that must stay outside. */
  async lead(catalogue: ServiceCatalogue, outside: readonly IpAddress[]): Promise<void> {
    const { network } = this.#options;
    const { ipv4, ipv6 } = this.pools;
    const wanted = [ipv4, ipv6, ...catalogue.prefixes().flatMap(halve)];
    await this.#guard();
    await network.captureGuard.refuse([ipv4, ipv6]);
    const pins = outside.filter((address) => ![ipv4, ipv6].some((pool) => prefixContains(pool, address)));
    await network.routes.apply(wanted, pins);
  }

  /** This machine's network may have changed: learns its addresses, and tells of what has come into the pools. */
  async follow(): Promise<GinnelError | undefined> {
    const { network, allowRemoteClients } = this.#options;
    const routes = await network.routes.present();
    this.#capture.setSources(allowRemoteClients ? "any" : new AddressSet(ownAddresses(routes)));
    await this.#guard();
    return conflictOf(this.pools, { routes, interfaceName: network.name });
  }

  /** Before routes lead here. Services can be reached without a guard, but the LAN must be trusted then. */
  async #guard(): Promise<void> {
    const { network, allowRemoteClients, logger } = this.#options;
    const { own } = new CaptureAddresses(this.pools);
    try {
      await network.captureGuard.apply({ own: [own[4].address, own[6].address], allowRemoteClients });
      this.#isUnguarded = false;
    } catch (error) {
      if (!this.#isUnguarded) {
        logger.warn("capture_unguarded", {
          interface: network.name,
          detail: errorMessage(error),
          hint: "Install nftables: without it other machines of this network may pass for services",
        });
      }
      this.#isUnguarded = true;
    }
  }

  /** Ends every flow and takes back what was set up. */
  async close(reason?: unknown): Promise<void> {
    this.#closing = true;
    clearInterval(this.#timer);
    const { network } = this.#options;
    // While the interface is there: what ends is told through it.
    await this.#capture.end(reason);
    for (const listener of this.#listeners) listener.close();
    try {
      await network.routes.close();
      await network.captureGuard.close();
      await network.interface.close();
    } finally {
      this.#capture.close();
      await this.#running;
    }
  }
}

interface SetupParts {
  readonly capture: Capture;
  readonly listeners: readonly SocketListener[];
  readonly accepting: readonly Promise<void>[];
}

interface CaptureListener {
  readonly version: 4 | 6;
  readonly listener: SocketListener;
}

/** A listener for each version that this machine has. */
function listenAt({ own }: CaptureAddresses, logger: Logger): CaptureListener[] {
  const onError = (error: unknown) => logger.warn("capture_not_accepted", { detail: errorMessage(error) });
  const ipv4 = listenTcp({ hostname: formatIp(own[4].address), port: 0 }, { onError });
  try {
    const ipv6 = listenTcp({ hostname: formatIp(own[6].address), port: 0 }, { onError });
    return [{ version: 4, listener: ipv4 }, { version: 6, listener: ipv6 }];
  } catch (error) {
    // IPv6 is off.
    logger.debug("capture_ipv6_off", { detail: errorMessage(error) });
    return [{ version: 4, listener: ipv4 }];
  }
}

async function acceptAll(
  capture: Capture,
  { version, listener, addresses }: CaptureListener & { readonly addresses: CaptureAddresses },
): Promise<void> {
  const peer = addresses.peer[version].address.value;
  for await (const { channel, remote } of listener.connections()) {
    if (parseIp(remote.hostname)?.value === peer) capture.accept(channel, { version, port: remote.port });
    else channel.abort();
  }
}

function checkPools(pools: ServiceNetwork, options: RouteView): void {
  const conflict = conflictOf(pools, options);
  if (conflict !== undefined) throw conflict;
}

interface RouteView {
  readonly routes: readonly KernelRoute[];
  readonly interfaceName: string;
}

/** What is in the way of the virtual addresses, and which would be free. */
function conflictOf({ ipv4, ipv6 }: ServiceNetwork, options: RouteView): GinnelError | undefined {
  const found = [ipv4, ipv6].flatMap((pool) => {
    const route = poolConflict(pool, options);
    return route === undefined ? [] : [{ pool, route, free: freePool(pool, options) }];
  });
  if (found.length === 0) return undefined;
  const uses = found.map(({ pool, route }) => {
    const place = deviceOf(route) === undefined ? "this machine" : `interface ${deviceOf(route)}`;
    const what = route.type === "local" ? "address" : "route";
    return `${formatPrefix(pool)} are in use: ${place} has the ${what} ${formatPrefix(route.prefix)}`;
  });
  const isFree = found.every(({ free }) => free !== undefined);
  const settings = found.map(({ pool, free }) =>
    `"ipv${pool.version}": ${free === undefined ? "…" : `"${formatPrefix(free)}"`}`
  );
  return new GinnelError("ERR_CAPTURE_CONFLICT", `The services' virtual addresses ${uses.join("; ")}`, {
    hint: `Set "services": {${settings.join(", ")}} in the agent's config${
      isFree ? ": that is free here" : " to a prefix that is free here"
    }`,
  });
}

function halve(prefix: IpPrefix): IpPrefix[] {
  return prefix.length === 0 ? HALVES.filter(({ version }) => version === prefix.version) : [prefix];
}
