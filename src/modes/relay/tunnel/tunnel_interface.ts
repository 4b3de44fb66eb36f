/** The network interface of a relay's tunnels and what the machine does around it: addresses, NAT and MTU. */

import { errorMessage } from "../../../base/errors.ts";
import { type IpAddress, ipBits, type IpPrefix } from "../../../base/ip.ts";
import type { Logger } from "../../../base/log.ts";
import type { RelayTunnelConfig } from "../../../config/schema/tunnel.ts";
import { MIN_MTU } from "../../../dataplane/tunnel/connect_ip.ts";
import type { PacketDevice } from "../../../dataplane/tunnel/packet_device.ts";
import { HostNetwork } from "../../../io/network/host_network.ts";
import { openTun } from "../../../io/tun/device.ts";

/** What to set up. */
export interface TunnelInterfaceOptions {
  readonly config: Pick<RelayTunnelConfig, "interface" | "nat">;
  readonly pools: readonly IpPrefix[];
  /** The relay's own addresses, one of each pool. */
  readonly gateways: readonly IpAddress[];
  readonly logger: Logger;
}

/** An interface that is up. */
export class TunnelInterface implements AsyncDisposable {
  readonly device: PacketDevice;
  readonly #network: HostNetwork;
  readonly #logger: Logger;
  #mtu = MIN_MTU;

  private constructor(device: PacketDevice, network: HostNetwork, logger: Logger) {
    this.device = device;
    this.#network = network;
    this.#logger = logger;
  }

  /** Sets everything up; what was set up until an error is undone. */
  static async open({ config, pools, gateways, logger }: TunnelInterfaceOptions): Promise<TunnelInterface> {
    await using undo = new AsyncDisposableStack();
    const keepNat = config.nat === "masquerade";
    const network = undo.use(await HostNetwork.open(config.interface, { logger, keepNat }));
    const device = openTun({ name: config.interface, mtu: MIN_MTU });
    undo.defer(() => device.close());
    await network.interface.apply({ addresses: withLengths(gateways, pools), mtu: MIN_MTU, up: true });
    for (const warning of await network.nat.apply({ mode: config.nat, pools, gateways })) {
      logger.warn("tunnel_network", { detail: warning });
    }
    undo.move();
    return new TunnelInterface(device, network, logger);
  }

  /** Makes room for packets of this size. */
  setMtu(mtu: number): void {
    if (mtu === this.#mtu) return;
    this.#mtu = mtu;
    try {
      this.device.setMtu(mtu);
    } catch (error) {
      this.#logger.warn("tunnel_mtu_not_set", { mtu, detail: errorMessage(error) });
    }
  }

  /** Takes back what was set up around the device, which its reader closes. */
  async restore(): Promise<void> {
    await this.#network.close().catch((error) => {
      this.#logger.error("tunnel_network_left", { detail: errorMessage(error) });
    });
  }

  /** Undoes all of it, for a start that fails. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
    await this.#network.close();
  }
}

function withLengths(
  gateways: readonly IpAddress[],
  pools: readonly IpPrefix[],
): { readonly address: IpAddress; readonly prefixLength: number }[] {
  return gateways.map((address) => ({
    address,
    prefixLength: pools.find(({ version }) => version === address.version)?.length ?? ipBits(address.version),
  }));
}
