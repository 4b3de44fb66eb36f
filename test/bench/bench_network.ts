/**
 * The hosts a bench runs on, each a network namespace: `client` (load source, agent), `relay`, `service` (connector,
 * load sink) and `wan`, whose UDP proxy delays and loses. Raw TCP from client to service over the same bridge is the baseline.
 */

import { Deployment, RELAY_NAME, RELAY_PORT } from "../support/deployment.ts";
import { type Host, Network } from "../support/namespaces.ts";
import { ManagedProcess, runCommand } from "../support/processes.ts";
import { UdpProxy } from "../support/udp_proxy.ts";
import type { LoadTarget } from "./load.ts";

const BULK_PORT = 5201;
const ECHO_PORT = 9100;
/** How long the first flow through a fresh product may take to succeed. */
const READY_MS = 30_000;
const PROBE_INTERVAL_MS = 200;

/** How a node reaches its relay. */
export type Carrier = "auto" | "quic" | "tls";

/** What lies between agent and relay. */
export interface LongPath {
  /** Round trip added, in milliseconds, half of it each way. */
  readonly roundTripMs: number;
  /** Probability that a datagram is lost, each way. */
  readonly loss: number;
}

/** Where load can be sent. */
export interface Targets {
  readonly bulk: LoadTarget;
  readonly echo: LoadTarget;
}

/** The nodes whose CPU time is accounted. */
export type NodeName = "agent" | "relay" | "connector";

/** Namespaces with the load sinks running. */
export class BenchNetwork implements AsyncDisposable {
  readonly netload: string;
  /** What nodes are run with, unless from source. */
  readonly program: readonly string[] | undefined;
  readonly #network: Network;
  readonly #sinks: readonly ManagedProcess[];

  private constructor(
    network: Network,
    options: {
      readonly netload: string;
      readonly program: readonly string[] | undefined;
      readonly sinks: readonly ManagedProcess[];
    },
  ) {
    this.#network = network;
    this.netload = options.netload;
    this.program = options.program;
    this.#sinks = options.sinks;
  }

  /** Makes the hosts and starts the sinks. */
  static async create(
    options: { readonly netload: string; readonly program: readonly string[] | undefined },
  ): Promise<BenchNetwork> {
    const network = await Network.create(["client", "relay", "service", "wan"]);
    const service = network.host("service");
    const sinks = [
      ManagedProcess.spawn(
        service.command(["iperf3", "--server", "--port", `${BULK_PORT}`, "--forceflush"]),
        { name: "iperf3" },
      ),
      ManagedProcess.spawn(service.command([options.netload, "serve", "0.0.0.0", `${ECHO_PORT}`]), {
        name: "netload",
      }),
    ];
    try {
      await sinks[0]!.waitForLine(/Server listening/);
      await sinks[1]!.waitForLine(/^listening/);
    } catch (error) {
      await network[Symbol.asyncDispose]();
      throw error;
    }
    return new BenchNetwork(network, { ...options, sinks });
  }

  /** The host of that name. */
  host(name: "client" | "relay" | "service" | "wan"): Host {
    return this.#network.host(name);
  }

  /** Straight from client to service, without the product. */
  get raw(): Targets {
    const { address } = this.host("service");
    const wrap = this.host("client").command;
    return {
      bulk: { hostname: address, port: BULK_PORT, wrap },
      echo: { hostname: address, port: ECHO_PORT, wrap },
    };
  }

  /** Starts relay, connector and agent and waits until a flow gets through. */
  async startProduct(options: { readonly carrier: Carrier; readonly path?: LongPath }): Promise<Product> {
    const { carrier, path } = options;
    const deployment = await Deployment.create({
      services: [{ name: "bulk" }, { name: "echo" }],
      ...(this.program === undefined ? {} : { program: this.program }),
    });
    const product = new Product(this, deployment);
    try {
      await product.start(carrier, path);
      return product;
    } catch (error) {
      await product[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#sinks.map((sink) => sink.stop()));
    await this.#network[Symbol.asyncDispose]();
  }
}

/** A running relay, connector and agent, each on its host. */
export class Product implements AsyncDisposable {
  readonly deployment: Deployment;
  readonly #network: BenchNetwork;
  readonly #nodes = new Map<NodeName, ManagedProcess>();
  #proxy: UdpProxy | undefined;

  constructor(network: BenchNetwork, deployment: Deployment) {
    this.#network = network;
    this.deployment = deployment;
  }

  /** Through the agent's forwards. */
  get targets(): Targets {
    const wrap = this.#network.host("client").command;
    return {
      bulk: { hostname: "127.0.0.1", port: BULK_PORT, wrap },
      echo: { hostname: "127.0.0.1", port: ECHO_PORT, wrap },
    };
  }

  /** CPU seconds of each node since its start. */
  cpuSeconds(): Record<NodeName, number> {
    const of = (name: NodeName) => this.node(name).usage().cpuSeconds;
    return { agent: of("agent"), relay: of("relay"), connector: of("connector") };
  }

  /** A node's process. */
  node(name: NodeName): ManagedProcess {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`Cannot find ${name}: it was not started`);
    return node;
  }

  /** What every node logged last. */
  lastLines(): string {
    return [...this.#nodes].map(([name, node]) => `--- ${name}\n${node.lines.slice(-15).join("\n")}`).join(
      "\n",
    );
  }

  /** Starts all nodes; with `path` the agent reaches the relay through the delaying proxy. */
  async start(carrier: Carrier, path: LongPath | undefined): Promise<void> {
    const { deployment } = this;
    const client = this.#network.host("client"),
      relay = this.#network.host("relay"),
      service = this.#network.host("service");
    this.#nodes.set("relay", await deployment.startRelay({}, { wrap: relay.command }));
    const straight = `${relay.address}:${RELAY_PORT}`;
    this.#nodes.set(
      "connector",
      await deployment.start("connector-1", {
        mode: "connector",
        identity: await deployment.issue("connector", "connector-1"),
        relays: [{ name: RELAY_NAME, address: straight }],
        services: [
          { name: "bulk", upstream: `tcp://127.0.0.1:${BULK_PORT}` },
          { name: "echo", upstream: `tcp://127.0.0.1:${ECHO_PORT}` },
        ],
        carrier,
      }, { wrap: service.command }),
    );
    this.#nodes.set(
      "agent",
      await deployment.start("agent-1", {
        mode: "agent",
        identity: await deployment.issue("agent", "agent-1"),
        relays: [{ name: RELAY_NAME, address: path === undefined ? straight : await this.#startProxy(path) }],
        forwards: [
          { listen: `127.0.0.1:${BULK_PORT}`, service: "bulk" },
          { listen: `127.0.0.1:${ECHO_PORT}`, service: "echo" },
        ],
        carrier,
      }, { wrap: client.command }),
    );
    await this.#untilReady();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.deployment[Symbol.asyncDispose]();
    await this.#proxy?.[Symbol.asyncDispose]();
  }

  async #startProxy({ roundTripMs, loss }: LongPath): Promise<string> {
    const wan = this.#network.host("wan");
    this.#proxy = await UdpProxy.start({
      listen: { hostname: wan.address, port: RELAY_PORT },
      target: { hostname: this.#network.host("relay").address, port: RELAY_PORT },
      delayMs: roundTripMs / 2,
      loss,
      wrap: wan.command,
    });
    return `${wan.address}:${RELAY_PORT}`;
  }

  /** A node's log says that it is up; only a flow that comes back says that all of them are. */
  async #untilReady(): Promise<void> {
    const { hostname, port, wrap } = this.targets.echo;
    const giveUp = performance.now() + READY_MS;
    for (;;) {
      try {
        await runCommand(wrap([this.#network.netload, "latency", hostname, `${port}`, "1", "0"]));
        return;
      } catch (error) {
        const dead = [...this.#nodes.values()].find((node) => !node.running);
        if (dead === undefined && performance.now() < giveUp) {
          await new Promise((resolve) => setTimeout(resolve, PROBE_INTERVAL_MS));
          continue;
        }
        throw new Error(`No flow got through the product\n${this.lastLines()}`, { cause: error });
      }
    }
  }
}
