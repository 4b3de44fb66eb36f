/**
 * Two namespaces whose only path to each other is two TUN interfaces of this process and a loop that carries packets
 * from one to the other, judging each on the way.
 */

import { setImmediate } from "node:timers";
import { PacketBatch } from "../../../src/dataplane/tunnel/packet_batch.ts";
import type { PacketDevice } from "../../../src/dataplane/tunnel/packet_device.ts";
import { openTun } from "../../../src/io/tun/device.ts";
import { type Host, Network } from "../../support/namespaces.ts";
import { runCommand } from "../../support/processes.ts";
import { needsNetworkNamespaces, needsTool, type Requirement } from "../../support/require_tool.ts";
import { packetFaults } from "./packets.ts";

/** What the tests with real interfaces need. */
export const TUN_NEEDS: readonly Requirement[] = [needsNetworkNamespaces(), needsTool("gcc"), needsTun()];

/** What went through from one side to the other. */
export interface Carried {
  packets: number;
  bytes: number;
  refused: number;
  /** Most packets that one read gave. */
  most: number;
  faults: string[];
}

let made = 0;

/** Opens an interface and moves it into a host, with addresses, up. */
export async function openInside(
  host: Host,
  { addresses, mtu = 1_380 }: { readonly addresses: readonly string[]; readonly mtu?: number },
): Promise<PacketDevice> {
  const device = openTun({ name: `gt${Deno.pid % 100_000}x${made++}`, mtu });
  try {
    await ip(["link", "set", device.name, "netns", host.namespace]);
    for (const address of addresses) {
      const noWait = address.includes(":") ? ["nodad"] : [];
      await ip(["-n", host.namespace, "addr", "add", address, "dev", device.name, ...noWait]);
    }
    await ip(["-n", host.namespace, "link", "set", device.name, "up"]);
    return device;
  } catch (error) {
    device.close();
    throw error;
  }
}

/** The joined namespaces; disposing stops the loop, closes the interfaces and removes the namespaces. */
export class TunPair implements AsyncDisposable {
  readonly hosts: readonly [Host, Host];
  readonly devices: readonly [PacketDevice, PacketDevice];
  /** What went from the first to the second, and back. */
  readonly carried: readonly [Carried, Carried] = [nothing(), nothing()];
  readonly #network: Network;
  readonly #pipes: Promise<void>;

  private constructor(
    network: Network,
    { devices, batch }: {
      readonly devices: readonly [PacketDevice, PacketDevice];
      readonly batch: { readonly maxPackets: number; readonly maxBytes: number };
    },
  ) {
    this.#network = network;
    this.hosts = [network.host("a"), network.host("b")];
    this.devices = devices;
    this.#pipes = Promise.all([0, 1].map((side) => this.#carry(side as 0 | 1, new PacketBatch(batch)))).then(
      () => {},
    );
  }

  /** Addresses: 10.9.0.1 and fd09::1 in the first namespace, .2 and ::2 in the second. */
  static async create(
    batch: { readonly maxPackets: number; readonly maxBytes: number } = {
      maxPackets: 256,
      maxBytes: 1 << 19,
    },
  ): Promise<TunPair> {
    const network = await Network.create(["a", "b"]);
    const devices: PacketDevice[] = [];
    try {
      for (const [index, name] of ["a", "b"].entries()) {
        const addresses = [`10.9.0.${index + 1}/24`, `fd09::${index + 1}/64`];
        devices.push(await openInside(network.host(name), { addresses }));
      }
      return new TunPair(network, { devices: devices as [PacketDevice, PacketDevice], batch });
    } catch (error) {
      for (const device of devices) device.close();
      await network[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Frames that the kernel counted on interface `side`: sent out to us, and taken from us. */
  async frames(side: 0 | 1): Promise<{ sent: number; taken: number }> {
    const name = this.devices[side].name;
    const [link] = JSON.parse(await ip(["-n", this.hosts[side].namespace, "-s", "-j", "link", "show", name]));
    return { sent: link.stats64.tx.packets, taken: link.stats64.rx.packets };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const device of this.devices) device.close();
    await this.#pipes;
    await this.#network[Symbol.asyncDispose]();
  }

  async #carry(side: 0 | 1, batch: PacketBatch): Promise<void> {
    const from = this.devices[side], to = this.devices[1 - side as 0 | 1], carried = this.carried[side];
    do {
      for (let count = from.read(batch), rounds = 0; count > 0; count = from.read(batch)) {
        carried.packets += count;
        carried.most = Math.max(carried.most, count);
        for (let index = 0; index < count; index++) {
          const packet = batch.bytes.subarray(batch.starts[index], batch.ends[index]);
          carried.bytes += packet.length;
          carried.faults.push(...packetFaults(packet));
          if (packet.length > 1_380) carried.faults.push(`${packet.length} bytes`);
        }
        carried.refused += to.write(batch);
        if (++rounds % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    } while (await from.readable());
  }
}

/** Runs `ip`; returns what it printed. */
export function ip(args: readonly string[]): Promise<string> {
  return runCommand(["ip", ...args]);
}

function nothing(): Carried {
  return { packets: 0, bytes: 0, refused: 0, most: 0, faults: [] };
}

function needsTun(): Requirement {
  let met = false;
  try {
    met = Deno.statSync("/dev/net/tun").isCharDevice === true;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return { name: "/dev/net/tun", met, remedy: "modprobe tun", path: "/dev/net/tun" };
}
