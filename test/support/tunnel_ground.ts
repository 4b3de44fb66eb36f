/**
 * The ground on which tunnels are tested and measured: hosts `agent1`, `agent2`, `relay` and `internet`, dual stack.
 * The agents and the relay share a network whose gateway is the internet itself, so what leaves beside the tunnel
 * gets there too, and shows by its source; the relay has a second interface, which only the internet is behind.
 */

import { Deployment, type DeploymentOptions, RELAY_NAME, RELAY_PORT } from "./deployment.ts";
import type { Host } from "./namespaces.ts";
import type { ManagedProcess } from "./processes.ts";
import { replaceJson, SERVICES, type Stage, TUNNEL_INTERFACE, TunnelHosts } from "./tunnel_hosts.ts";
import type { InternetName } from "./tunnel_internet.ts";

/** Addresses of the internet's services, each in both families, and what the relay is seen as from there. */
export const INTERNET = {
  ...SERVICES,
  relaySeenAs: "203.0.113.2",
  relaySeenAs6: "2001:db8:203::2",
} as const;

const HOSTS = ["agent1", "agent2", "relay", "internet"] as const;
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
export class TunnelGround implements Stage<GroundHost>, AsyncDisposable {
  readonly deployment: Deployment;
  readonly #hosts: TunnelHosts<GroundHost>;

  private constructor(hosts: TunnelHosts<GroundHost>, deployment: Deployment) {
    this.#hosts = hosts;
    this.deployment = deployment;
  }

  /** Makes the hosts and starts the internet's services; no node runs yet. */
  static async create(options: TunnelGroundOptions = {}): Promise<TunnelGround> {
    const { egress = OPEN_EGRESS, services = [], program } = options;
    await using undo = new AsyncDisposableStack();
    const deployment = undo.use(
      await Deployment.create({ services, ...(program ? { program } : {}) }),
    );
    const hosts = undo.use(await TunnelHosts.create(HOSTS, deployment.folder));
    const ground = new TunnelGround(hosts, deployment);
    await ground.#connect();
    await ground.writeEgress(egress);
    await hosts.startInternet("internet");
    undo.move();
    return ground;
  }

  /** The host of that name. */
  host(name: GroundHost): Host {
    return this.#hosts.host(name);
  }

  /** Where all its files are. */
  get folder(): string {
    return this.deployment.folder;
  }

  /** The identity file of the agent of that name. */
  identity(name: string): Promise<string> {
    return this.deployment.issue("agent", name);
  }

  /** The relay's address on the network it shares with the agents, with its port. */
  get relayAddress(): string {
    return `${this.host("relay").address}:${RELAY_PORT}`;
  }

  /** Replaces the egress policy in one step; the relay reads it again by itself. */
  async writeEgress(egress: EgressSource): Promise<void> {
    await replaceJson(`${this.deployment.folder}/egress.json`, egress);
  }

  /** Replaces all names that the internet's name servers know. */
  async writeNames(names: Readonly<Record<string, InternetName>>): Promise<void> {
    await this.#hosts.writeNames(names);
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
    }, { wrap: (command) => this.#hosts.command("relay", [...prefix, ...command]) });
    await this.#hosts.untilUp("relay", relay);
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
    }, { wrap: (command) => this.#hosts.command(name, [...prefix, ...command]) });
    if (untilUp) {
      await this.#hosts.untilUp(name, agent);
      await agent.waitForLine(/"tunnel_up"/);
    }
    return agent;
  }

  /** Addresses of the tunnel interface on a host, without link-local ones; empty while there is none. */
  tunnelAddresses(name: GroundHost): Promise<string[]> {
    return this.#hosts.tunnelAddresses(name);
  }

  /** Runs a command on a host to its end, failing with its output. */
  run(name: GroundHost, command: readonly string[]): Promise<string> {
    return this.#hosts.run(name, command);
  }

  /** Starts a command on a host; it ends with the ground at the latest. */
  spawn(name: GroundHost, command: readonly string[]): ManagedProcess {
    return this.#hosts.spawn(name, command);
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
    await this.#hosts[Symbol.asyncDispose]();
  }

  async #connect(): Promise<void> {
    const internet = this.host("internet");
    await this.#hosts.configure("relay", [
      "link add eth1 mtu 1500 type veth peer name eth1 mtu 1500 netns " + internet.namespace,
      `addr add ${WAN.relay}/24 dev eth1`,
      `addr add ${WAN.relay6}/64 dev eth1 nodad`,
      "link set eth1 up",
      `route add default via ${WAN.internet}`,
      `route add ::/0 via ${WAN.internet6}`,
    ]);
    await this.#hosts.configure("internet", [
      `addr add ${WAN.internet}/24 dev eth1`,
      `addr add ${WAN.internet6}/64 dev eth1 nodad`,
      "link set eth1 up",
    ]);
    for (const name of ["agent1", "agent2"] as const) {
      await this.#hosts.configure(name, [
        `route add default via ${internet.address}`,
        `route add ::/0 via ${this.#hosts.address6("internet")}`,
      ]);
    }
  }
}
