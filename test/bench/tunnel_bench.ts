/**
 * What tunnel measurements run against: a tunnel ground whose internet serves load, with the raw way through the
 * relay as a router, or with relay and agent running a tunnel.
 */

import { errorMessage } from "../../src/base/errors.ts";
import { compileTool } from "../support/compile_tool.ts";
import { RELAY_NAME } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { type EgressSource, INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { type BareDatagrams, measureBareDatagrams } from "./bare_datagrams.ts";
import { benchScript } from "./bench_script.ts";
import type { BenchNetwork, Targets } from "./bench_network.ts";
import { type LoadTarget, measureLatency } from "./load.ts";

const BULK_PORT = 5201;
const ECHO_PORT = 9100;
const UDP_PORT = 9200;
/** How long the first bytes through a fresh tunnel may take. */
const READY_MS = 20_000;
const SESSIONS_MS = 120_000;

/** Load targets in the internet as seen from agent1, and the nodes between. */
export class TunnelBench implements AsyncDisposable {
  readonly udpload: string;
  readonly #ground: TunnelGround;
  readonly #nodes = new Map<string, ManagedProcess>();
  #raw: AsyncDisposable | undefined;
  #ready = false;

  private constructor(ground: TunnelGround, udpload: string) {
    this.#ground = ground;
    this.udpload = udpload;
  }

  /** The internet through the relay as a mere router. */
  static async startRaw(network: BenchNetwork): Promise<TunnelBench> {
    return await TunnelBench.#start(network, async (bench) => {
      bench.#raw = await bench.#ground.routeRaw(INTERNET.web);
    });
  }

  /** The internet through a tunnel, the only one at the relay, by a policy of one rule. */
  static async startTunnel(network: BenchNetwork): Promise<TunnelBench> {
    return await TunnelBench.#start(network, async (bench) => {
      await bench.#ground.writeEgress(egressOf(1));
      bench.#nodes.set("relay", await bench.#ground.startRelay({}, { log: { level: "info" } }));
      const agent = { config: { log: { level: "info" } }, tunnel: { routes: ["198.51.100.0/24"] } };
      bench.#nodes.set("agent", await bench.#ground.startAgent("agent1", agent));
    });
  }

  static async #start(
    network: BenchNetwork,
    prepare: (bench: TunnelBench) => Promise<void>,
  ): Promise<TunnelBench> {
    const udpload = await compileTool(new URL("./tools/udpload.c", import.meta.url));
    const { program } = network;
    const ground = await TunnelGround.create(program === undefined ? {} : { program });
    const bench = new TunnelBench(ground, udpload);
    try {
      await bench.#startSinks(network.netload);
      await prepare(bench);
      await bench.#untilReady(network.netload);
      return bench;
    } catch (error) {
      throw new Error(`The bench did not start: ${errorMessage(error)}\n${bench.lastLines()}`, {
        cause: error,
      });
    } finally {
      if (!bench.#ready) await bench[Symbol.asyncDispose]();
    }
  }

  /** TCP services of the internet, from agent1. */
  get targets(): Targets {
    return { bulk: this.#target(BULK_PORT), echo: this.#target(ECHO_PORT) };
  }

  /** The UDP load server, from agent1. */
  get udp(): LoadTarget {
    return this.#target(UDP_PORT);
  }

  /** CPU seconds of each node since its start. */
  cpuSeconds(): Record<string, number> {
    return Object.fromEntries([...this.#nodes].map(([name, node]) => [name, node.usage().cpuSeconds]));
  }

  /** What every node logged last. */
  lastLines(): string {
    return [...this.#nodes].map(([name, { lines }]) => `--- ${name}\n${lines.slice(-15).join("\n")}`).join(
      "\n",
    );
  }

  /** Puts a policy of that many rules in force, of which only the last lets the load through. */
  async setRules(count: number): Promise<void> {
    const relay = this.#nodes.get("relay")!;
    const lastLoad = () => relay.lines.findLast((line) => line.includes('"egress_policy_loaded"'));
    const before = lastLoad();
    await this.#ground.writeEgress(egressOf(count));
    await eventually(() => lastLoad() !== before);
  }

  /** Opens that many more tunnels at the relay, which only exist. */
  async openSessions(count: number): Promise<void> {
    const { deployment } = this.#ground;
    const identities = [];
    for (let i = 0; i < count; i++) identities.push(await deployment.issue("agent", `idle-${i}`));
    const holder = this.#ground.spawn(
      "agent2",
      benchScript("tunnel_sessions.ts", [RELAY_NAME, this.#ground.relayAddress, ...identities]),
    );
    await holder.waitForLine(/^open$/, { timeoutMs: SESSIONS_MS });
  }

  /** QUIC datagrams per second from agent1 to the relay's host, between two bare processes. */
  measureDatagrams(options: { readonly size: number; readonly seconds: number }): Promise<BareDatagrams> {
    const ground = this.#ground;
    return measureBareDatagrams({
      folder: ground.deployment.folder,
      address: ground.host("relay").address,
      send: (command) => ground.run("agent1", command),
      receive: (command) => ground.spawn("relay", command),
    }, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#raw?.[Symbol.asyncDispose]();
    await this.#ground[Symbol.asyncDispose]();
  }

  #target(port: number): LoadTarget {
    return { hostname: INTERNET.web, port, wrap: this.#ground.host("agent1").command };
  }

  async #startSinks(netload: string): Promise<void> {
    const sinks: readonly (readonly [readonly string[], RegExp])[] = [
      [["iperf3", "--server", "--port", `${BULK_PORT}`, "--forceflush"], /Server listening/],
      [[netload, "serve", "0.0.0.0", `${ECHO_PORT}`], /^listening/],
      // Bound to the address that is asked: from a wildcard socket the load would come from another.
      [[this.udpload, "serve", INTERNET.web, `${UDP_PORT}`], /^listening/],
    ];
    for (const [command, ready] of sinks) await this.#ground.spawn("internet", command).waitForLine(ready);
  }

  /** An interface that is up says little; only bytes that come back say that the way is open. */
  async #untilReady(netload: string): Promise<void> {
    await eventually(
      () => measureLatency(this.targets.echo, { netload, size: 1, seconds: 0 }),
      { timeout: READY_MS, interval: 200 },
    );
    this.#ready = true;
  }
}

function egressOf(rules: number): EgressSource {
  const others = Array.from({ length: rules - 1 }, (_, index) => ({
    ...{ id: `other-${index}`, type: "ip_cidr", action: index % 2 === 0 ? "allow" : "deny" },
    ...{
      destinations: [`172.${16 + (index >> 6)}.${index & 63}.0/24`],
      protocol: "tcp",
      ports: ["8000-8100"],
    },
  }));
  const last = { id: "load", type: "ip_cidr", action: "allow", destinations: ["198.51.100.0/24"] };
  return { version: "1.0", default_action: "deny", clients: { "#all": { rules: [...others, last] } } };
}
