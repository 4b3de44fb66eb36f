/**
 * The ground on which tunnels are tested and measured: hosts `agent1`, `agent2`, `relay` and `internet`, dual stack.
 * The agents and the relay share a network whose gateway is the internet itself, so what leaves beside the tunnel
 * gets there too, and shows by its source; the relay has a second interface, which only the internet is behind.
 */

import { Deployment, type DeploymentOptions, RELAY_NAME, RELAY_PORT } from "./deployment.ts";
import { eventually } from "./eventually.ts";
import { type Host, Network } from "./namespaces.ts";
import { ManagedProcess, runCommand } from "./processes.ts";
import type { InternetName } from "./tunnel_internet.ts";

/** Addresses of the internet's services, each in both families, and what the relay is seen as from there. */
export const INTERNET = {
  dns: "8.8.8.8",
  dns6: "2001:4860:4860::8888",
  otherDns: "1.1.1.1",
  web: "198.51.100.10",
  web6: "2001:db8:100::10",
  other: "198.51.100.20",
  other6: "2001:db8:100::20",
  relaySeenAs: "203.0.113.2",
  relaySeenAs6: "2001:db8:203::2",
} as const;

/** The interface of every tunnel made here. */
export const TUNNEL_INTERFACE = "ginnel0";

const SERVICE_ADDRESSES = [
  ...[INTERNET.dns, INTERNET.otherDns, INTERNET.web, INTERNET.other],
  ...[INTERNET.dns6, INTERNET.web6, INTERNET.other6],
];
const HOSTS = ["agent1", "agent2", "relay", "internet"] as const;
const LAN6 = "fd77::";
const WAN = {
  internet: "203.0.113.1",
  internet6: "2001:db8:203::1",
  relay: INTERNET.relaySeenAs,
  relay6: INTERNET.relaySeenAs6,
};
/** Address of agent1 on the way to the internet that leads through the relay without a tunnel. */
const RAW_SOURCE = "10.78.0.1";

/** A host of the ground. */
export type GroundHost = typeof HOSTS[number];

/** Any document that the egress policy accepts. */
export type EgressSource = Readonly<Record<string, unknown>>;

/** What a ground starts with. */
export interface TunnelGroundOptions {
  /** Egress policy; default: every agent may go anywhere in the internet. */
  readonly egress?: EgressSource;
  /** Services of the dial policy; default none, so that many agents have no views of each other to keep. */
  readonly services?: DeploymentOptions["services"];
  /** Runs nodes with another program, such as a compiled binary. */
  readonly program?: DeploymentOptions["program"];
}

/** How to start an agent. */
export interface GroundAgentOptions {
  /** Fields of its `tunnel` config. */
  readonly tunnel?: Readonly<Record<string, unknown>>;
  /** Other fields of its config. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Name of its identity; default the host's, with a hyphen: `agent-1`. */
  readonly identity?: string;
  /** What stands in front of its command line, such as `setpriv` with its options. */
  readonly prefix?: readonly string[];
  /** False: do not wait until its tunnel carries packets. */
  readonly untilUp?: boolean;
}

/** A policy that lets every agent go everywhere in the internet. */
export const OPEN_EGRESS: EgressSource = {
  version: "1.0",
  default_action: "deny",
  clients: {
    "#all": {
      rules: [{ id: "all", type: "ip_cidr", action: "allow", destinations: ["0.0.0.0/0", "::/0"] }],
    },
  },
};

/** The hosts and the nodes running on them; disposing it removes everything. */
export class TunnelGround implements AsyncDisposable {
  readonly deployment: Deployment;
  readonly #network: Network;

  private constructor(network: Network, deployment: Deployment) {
    this.#network = network;
    this.deployment = deployment;
  }

  /** Makes the hosts and starts the internet's services; no node runs yet. */
  static async create(options: TunnelGroundOptions = {}): Promise<TunnelGround> {
    const { egress = OPEN_EGRESS, services = [], program } = options;
    const network = await Network.create(HOSTS);
    const deployment = await Deployment.create({ services, ...(program ? { program } : {}) });
    const ground = new TunnelGround(network, deployment);
    try {
      await ground.#connect();
      await ground.writeEgress(egress);
      await ground.writeNames({});
      await ground.#startInternet();
      return ground;
    } catch (error) {
      await ground[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The host of that name. */
  host(name: GroundHost): Host {
    return this.#network.host(name);
  }

  /** The relay's address on the network it shares with the agents, with its port. */
  get relayAddress(): string {
    return `${this.host("relay").address}:${RELAY_PORT}`;
  }

  /** Replaces the egress policy in one step; the relay reads it again by itself. */
  async writeEgress(egress: EgressSource): Promise<void> {
    await this.#replace("egress.json", egress);
  }

  /** Replaces all names that the internet's name servers know. */
  async writeNames(names: Readonly<Record<string, InternetName>>): Promise<void> {
    await this.#replace("names.json", names);
  }

  /** Starts the relay; resolves when it serves and its tunnel interface is up. */
  async startRelay(
    tunnel: Readonly<Record<string, unknown>> = {},
    config: Readonly<Record<string, unknown>> = {},
    { prefix = [] }: Pick<GroundAgentOptions, "prefix"> = {},
  ): Promise<ManagedProcess> {
    const relay = await this.deployment.startRelay({
      log: { level: "debug" },
      drainSeconds: 1,
      tunnel: { interface: TUNNEL_INTERFACE, policy: ["egress.json"], ...tunnel },
      ...config,
    }, { wrap: (command) => this.#wrapOf("relay")([...prefix, ...command]) });
    await this.#untilUp("relay", relay);
    return relay;
  }

  /** Starts an agent on its host; resolves when its tunnel carries packets. */
  async startAgent(
    name: "agent1" | "agent2",
    options: GroundAgentOptions = {},
  ): Promise<ManagedProcess> {
    const { tunnel = {}, config = {}, identity = name.replace("agent", "agent-"), untilUp = true } = options;
    const { prefix = [] } = options;
    const agent = await this.deployment.start(`${name}-node`, {
      mode: "agent",
      identity: await this.deployment.issue("agent", identity),
      relays: [{ name: RELAY_NAME, address: this.relayAddress }],
      log: { level: "debug" },
      tunnel: { interface: TUNNEL_INTERFACE, ...tunnel },
      ...config,
    }, { wrap: (command) => this.#wrapOf(name)([...prefix, ...command]) });
    if (untilUp) {
      await this.#untilUp(name, agent);
      await agent.waitForLine(/"tunnel_up"/);
    }
    return agent;
  }

  /** Addresses of the tunnel interface on a host, without link-local ones; empty while there is none. */
  async tunnelAddresses(name: GroundHost): Promise<string[]> {
    const output = await this.run(name, ["ip", "-json", "addr", "show"]);
    const links = JSON.parse(output) as {
      ifname: string;
      addr_info: { local: string; scope: string }[];
    }[];
    const link = links.find(({ ifname }) => ifname === TUNNEL_INTERFACE);
    return (link?.addr_info ?? []).filter(({ scope }) => scope !== "link").map(({ local }) => local);
  }

  /** Runs a command on a host to its end, failing with its output. */
  run(name: GroundHost, command: readonly string[]): Promise<string> {
    return runCommand(this.#wrapOf(name)(command));
  }

  /** Starts a command on a host; it ends with the ground at the latest. */
  spawn(name: GroundHost, command: readonly string[]): ManagedProcess {
    return ManagedProcess.spawn(this.#wrapOf(name)(command), { name: `${command[0]} on ${name}` });
  }

  /** Makes the way between agents and relay take no packets above that size, as a narrow access network does. */
  async narrowAccess(mtu: number): Promise<void> {
    for (const name of ["agent1", "agent2", "relay"] as const) {
      await this.run(name, ["ip", "link", "set", "eth0", "mtu", `${mtu}`]);
    }
  }

  /** Makes the relay's host forward packets, as an operator does who runs the relay without NAT. */
  async allowForwarding(): Promise<void> {
    for (const setting of ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]) {
      await this.run("relay", ["sh", "-c", `echo 1 > /proc/sys/net/${setting}`]);
    }
  }

  /** Routes a prefix back to the relay, as an operator does who runs it without NAT. */
  async routeBack(prefix: string): Promise<void> {
    const via = prefix.includes(":") ? WAN.relay6 : WAN.relay;
    await this.run("internet", ["ip", "route", "replace", prefix, "via", via]);
  }

  /**
   * Lets agent1 reach one IPv4 address of the internet through the relay as a mere router: the baseline for what the
   * tunnel costs. Returns what undoes it.
   */
  async routeRaw(address: string): Promise<AsyncDisposable> {
    const agent = this.host("agent1").address, relay = this.host("relay").address;
    await this.run("relay", ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    await this.run("relay", ["ip", "route", "replace", RAW_SOURCE, "via", agent]);
    await this.run("internet", ["ip", "route", "replace", RAW_SOURCE, "via", WAN.relay]);
    await this.run("agent1", ["ip", "addr", "replace", `${RAW_SOURCE}/32`, "dev", "lo"]);
    await this.run("agent1", ["ip", "route", "replace", address, "via", relay, "src", RAW_SOURCE]);
    return {
      [Symbol.asyncDispose]: async () => {
        await this.run("agent1", ["ip", "route", "del", address]);
        await this.run("agent1", ["ip", "addr", "del", `${RAW_SOURCE}/32`, "dev", "lo"]);
        await this.run("relay", ["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.deployment[Symbol.asyncDispose]();
    await this.#network[Symbol.asyncDispose]();
    for (const name of HOSTS) {
      await Deno.remove(resolverFolder(this.host(name)), { recursive: true }).catch(() => {/* never made */});
    }
  }

  /** Nodes of several hosts share the machine's file system: each gets a state folder and a resolv.conf of its own. */
  #wrapOf(name: GroundHost): Host["command"] {
    const host = this.host(name);
    const state = `RUNTIME_DIRECTORY=${this.deployment.folder}/run-${name}`;
    // The runtime asks for news of itself: packets that are none of ours.
    return (command) => host.command(["env", state, "DENO_NO_UPDATE_CHECK=1", ...command]);
  }

  async #connect(): Promise<void> {
    for (const name of HOSTS) {
      const host = this.host(name);
      await Deno.mkdir(`${this.deployment.folder}/run-${name}`, { mode: 0o700 });
      // `ip netns exec` shows this file as /etc/resolv.conf, so that no node touches the machine's own.
      await Deno.mkdir(resolverFolder(host), { recursive: true });
      await Deno.writeTextFile(`${resolverFolder(host)}/resolv.conf`, `nameserver ${INTERNET.dns}\n`);
    }
    const { namespace: relay } = this.host("relay"), { namespace: internet } = this.host("internet");
    await ip(relay, [
      "link add eth1 mtu 1500 type veth peer name eth1 mtu 1500 netns " + internet,
      `addr add ${WAN.relay}/24 dev eth1`,
      `addr add ${WAN.relay6}/64 dev eth1 nodad`,
      `addr add ${LAN6}3/64 dev eth0 nodad`,
      "link set eth1 up",
      `route add default via ${WAN.internet}`,
      `route add ::/0 via ${WAN.internet6}`,
    ]);
    await ip(internet, [
      `addr add ${WAN.internet}/24 dev eth1`,
      `addr add ${WAN.internet6}/64 dev eth1 nodad`,
      `addr add ${LAN6}4/64 dev eth0 nodad`,
      "link set eth1 up",
      ...SERVICE_ADDRESSES.map((address) => `addr add ${address}/${address.includes(":") ? 128 : 32} dev lo`),
    ]);
    for (const [index, name] of (["agent1", "agent2"] as const).entries()) {
      await ip(this.host(name).namespace, [
        `addr add ${LAN6}${index + 1}/64 dev eth0 nodad`,
        `route add default via ${this.host("internet").address}`,
        `route add ::/0 via ${LAN6}4`,
      ]);
    }
  }

  async #startInternet(): Promise<void> {
    const script = new URL("./tunnel_internet.ts", import.meta.url).pathname;
    const internet = this.spawn("internet", [
      ...[Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", script],
      ...[`${this.deployment.folder}/names.json`, ...SERVICE_ADDRESSES],
    ]);
    await internet.waitForLine(/^ready$/);
  }

  async #untilUp(name: GroundHost, node: ManagedProcess): Promise<void> {
    await eventually(async () => {
      if (!node.running || (await this.tunnelAddresses(name)).length > 0) return true;
      throw new Error(`${node.name} has no tunnel; its last lines:\n${node.lines.slice(-20).join("\n")}`);
    }, { timeout: 20_000, interval: 100 });
    if (!node.running) {
      throw new Error(`${node.name} ended; its last lines:\n${node.lines.slice(-20).join("\n")}`);
    }
  }

  async #replace(name: string, document: unknown): Promise<void> {
    const path = `${this.deployment.folder}/${name}`;
    await Deno.writeTextFile(`${path}.new`, JSON.stringify(document, undefined, 2));
    await Deno.rename(`${path}.new`, path);
  }
}

function resolverFolder({ namespace }: Host): string {
  return `/etc/netns/${namespace}`;
}

async function ip(namespace: string, commands: readonly string[]): Promise<void> {
  await runCommand(["ip", "-n", namespace, "-batch", "-"], { stdin: commands.join("\n") + "\n" });
}
