/**
 * Hosts on which nodes with tunnels run: network namespaces on one network, each with a resolver and a state folder of
 * its own, and in one of them the internet's services.
 */

import { eventually } from "./eventually.ts";
import { type Host, Network } from "./namespaces.ts";
import { ManagedProcess, runCommand } from "./processes.ts";
import type { InternetName } from "./tunnel_internet.ts";

/** Addresses of the internet's services, each in both families. */
export const SERVICES = {
  dns: "8.8.8.8",
  dns6: "2001:4860:4860::8888",
  otherDns: "1.1.1.1",
  web: "198.51.100.10",
  web6: "2001:db8:100::10",
  other: "198.51.100.20",
  other6: "2001:db8:100::20",
} as const;

/** The interface of every tunnel made here. */
export const TUNNEL_INTERFACE = "ginnel0";

/** First part of the hosts' IPv6 addresses on their network. */
const LAN6 = "fd77::";

/** Where traffic comes from: the hosts of a ground. */
export interface Stage<N extends string> {
  run(name: N, command: readonly string[]): Promise<string>;
  spawn(name: N, command: readonly string[]): ManagedProcess;
}

/** The hosts, one of which is the internet; disposing it removes them with whatever runs there. */
export class TunnelHosts<N extends string> implements Stage<N>, AsyncDisposable {
  readonly #network: Network;
  readonly #names: readonly N[];
  readonly #folder: string;

  private constructor(network: Network, names: readonly N[], folder: string) {
    this.#network = network;
    this.#names = names;
    this.#folder = folder;
  }

  /** Makes the hosts; what they need of files lies in the folder. */
  static async create<N extends string>(names: readonly N[], folder: string): Promise<TunnelHosts<N>> {
    const hosts = new TunnelHosts(await Network.create(names), names, folder);
    try {
      for (const [index, name] of names.entries()) {
        const host = hosts.host(name);
        await Deno.mkdir(`${folder}/run-${name}`, { mode: 0o700 });
        // `ip netns exec` shows this file as /etc/resolv.conf, so that no node touches the machine's own.
        await Deno.mkdir(resolverFolder(host), { recursive: true });
        await Deno.writeTextFile(`${resolverFolder(host)}/resolv.conf`, `nameserver ${SERVICES.dns}\n`);
        await hosts.configure(name, [`addr add ${LAN6}${index + 1}/64 dev eth0 nodad`]);
      }
      await hosts.writeNames({});
      return hosts;
    } catch (error) {
      await hosts[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The host of that name. */
  host(name: N): Host {
    return this.#network.host(name);
  }

  /** Its IPv6 address on the shared network. */
  address6(name: N): string {
    return `${LAN6}${this.#names.indexOf(name) + 1}`;
  }

  /** The command line that runs a command on a host. */
  command(name: N, command: readonly string[]): string[] {
    // Nodes of several hosts share the machine's file system.
    const state = `RUNTIME_DIRECTORY=${this.#folder}/run-${name}`;
    // The runtime asks for news of itself: packets that are none of ours.
    return this.host(name).command(["env", state, "DENO_NO_UPDATE_CHECK=1", ...command]);
  }

  /** Runs a command on a host to its end, failing with its output. */
  run(name: N, command: readonly string[]): Promise<string> {
    return runCommand(this.command(name, command));
  }

  /** Starts a command on a host; it ends with the hosts at the latest. */
  spawn(name: N, command: readonly string[]): ManagedProcess {
    return ManagedProcess.spawn(this.command(name, command), { name: `${command[0]} on ${name}` });
  }

  /** Runs lines of `ip` commands on a host. */
  async configure(name: N, commands: readonly string[]): Promise<void> {
    const { namespace } = this.host(name);
    await runCommand(["ip", "-n", namespace, "-batch", "-"], { stdin: commands.join("\n") + "\n" });
  }

  /** Starts the internet's services on a host. */
  async startInternet(name: N): Promise<void> {
    const addresses = Object.values(SERVICES);
    await this.configure(
      name,
      addresses.map((address) => `addr add ${address}/${address.includes(":") ? 128 : 32} dev lo`),
    );
    const script = new URL("./tunnel_internet.ts", import.meta.url).pathname;
    const internet = this.spawn(name, [
      ...[Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", script],
      ...[`${this.#folder}/names.json`, ...addresses],
    ]);
    await internet.waitForLine(/^ready$/);
  }

  /** Replaces all names that the internet's name servers know. */
  async writeNames(names: Readonly<Record<string, InternetName>>): Promise<void> {
    await replaceJson(`${this.#folder}/names.json`, names);
  }

  /** Addresses of the tunnel interface on a host, without link-local ones; empty while there is none. */
  async tunnelAddresses(name: N): Promise<string[]> {
    const output = await this.run(name, ["ip", "-json", "addr", "show"]);
    const links = JSON.parse(output) as {
      ifname: string;
      addr_info: { local: string; scope: string }[];
    }[];
    const link = links.find(({ ifname }) => ifname === TUNNEL_INTERFACE);
    return (link?.addr_info ?? []).filter(({ scope }) => scope !== "link").map(({ local }) => local);
  }

  /** Waits until a node has made its tunnel interface. */
  async untilUp(name: N, node: ManagedProcess): Promise<void> {
    await eventually(async () => {
      if (!node.running || (await this.tunnelAddresses(name)).length > 0) return true;
      throw new Error(`${node.name} has no tunnel; its last lines:\n${node.lines.slice(-20).join("\n")}`);
    }, { timeout: 20_000, interval: 100 });
    if (!node.running) {
      throw new Error(`${node.name} ended; its last lines:\n${node.lines.slice(-20).join("\n")}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#network[Symbol.asyncDispose]();
    for (const name of this.#names) {
      await Deno.remove(resolverFolder(this.host(name)), { recursive: true }).catch(() => {/* never made */});
    }
  }
}

/** Replaces a file by JSON in one step. */
export async function replaceJson(path: string, value: unknown): Promise<void> {
  await Deno.writeTextFile(`${path}.new`, JSON.stringify(value, undefined, 2));
  await Deno.rename(`${path}.new`, path);
}

function resolverFolder({ namespace }: Host): string {
  return `/etc/netns/${namespace}`;
}
