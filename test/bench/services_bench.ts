/**
 * What measurements of services run against: a service ground with load at the connector's host, an agent that captures
 * on `agent1`, and one without any privilege's help, by auto-forward, on `agent2`.
 */

import { errorMessage } from "../../src/base/errors.ts";
import { compileTool } from "../support/compile_tool.ts";
import { eventually } from "../support/eventually.ts";
import { type ManagedProcess, runCommand } from "../support/processes.ts";
import { RELAY_PORT } from "../support/deployment.ts";
import { UdpProxy } from "../support/udp_proxy.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { type BareDatagrams, measureBareDatagrams } from "./bare_datagrams.ts";
import type { BenchNetwork } from "./bench_network.ts";
import { benchScript } from "./bench_script.ts";
import type { LoadTarget } from "./load.ts";
import type { UdpLoad, UdpResult } from "./tunnel_load.ts";

const PORTS = { bulk: 5201, web: 8080, udp: 9200 } as const;
/** How virtual addresses begin. */
const VIRTUAL = "10.101.";
/** Where the agent's resolver answers. */
const RESOLVER = "10.101.0.1";
/** The machine's own resolver, at the connector's host. */
const OTHER_RESOLVER = "8.8.8.8";
const READY_MS = 20_000;

/** Where a name server is asked. */
export interface DnsTarget {
  readonly address: string;
  readonly names: readonly string[];
}

/** What a run of queries came to. */
export interface DnsResult {
  readonly answered: number;
  readonly failed: number;
  readonly p50Micros: number;
  readonly p99Micros: number;
}

/** The nodes and the load around them. */
export class ServicesBench implements AsyncDisposable {
  readonly #ground: ServiceGround;
  readonly #tools: { readonly udpload: string; readonly netload: string; readonly dnsload: string };
  readonly #nodes = new Map<string, ManagedProcess>();
  readonly #virtual = new Map<string, string>();
  readonly #local = new Map<string, string>();
  #added = 0;
  #proxy: UdpProxy | undefined;
  #path: object = {};

  private constructor(ground: ServiceGround, tools: ServicesBench["tools"]) {
    this.#ground = ground;
    this.#tools = tools;
  }

  /** Starts everything; resolves when a flow gets through either agent. */
  static async start({ netload, program }: BenchNetwork): Promise<ServicesBench> {
    const udpload = await compileTool(new URL("./tools/udpload.c", import.meta.url));
    const dnsload = await compileTool(new URL("./tools/dnsload.c", import.meta.url));
    const ground = await ServiceGround.create({ logLevel: "info", ...(program && { program }) });
    const bench = new ServicesBench(ground, { netload, udpload, dnsload });
    try {
      await bench.#startSinks();
      await bench.#startNodes();
      return bench;
    } catch (error) {
      const lines = bench.lastLines();
      await ground[Symbol.asyncDispose]();
      throw new Error(`The bench did not start: ${errorMessage(error)}\n${lines}`, { cause: error });
    }
  }

  /** The programs that make load. */
  get tools() {
    return this.#tools;
  }

  /** A service at its virtual address. */
  captured(service: keyof typeof PORTS): LoadTarget {
    return this.#target("agent1", this.#virtual.get(service)!, PORTS[service]);
  }

  /** A service at the same agent's forward. */
  forwarded(service: "bulk" | "web"): LoadTarget {
    return this.#target("agent1", "127.0.0.1", PORTS[service]);
  }

  /** A service of the other agent, at its address in 127.0.0.0/8. */
  autoForwarded(service: keyof typeof PORTS): LoadTarget {
    return this.#target("agent2", this.#local.get(service)!, PORTS[service]);
  }

  /** The connector's host without the product. */
  raw(service: keyof typeof PORTS): LoadTarget {
    return this.#target("agent1", this.#ground.hosts.host("conn1").address, PORTS[service]);
  }

  /** The processes by name, for profilers too; the relay's holds the controller as well. */
  get nodes(): ReadonlyMap<string, ManagedProcess> {
    return new Map([["relay", this.#ground.controller.process], ...this.#nodes]);
  }

  /** CPU seconds of each node since its start. */
  cpuSeconds(): Record<string, number> {
    return Object.fromEntries([...this.nodes].map(([name, node]) => [name, node.usage().cpuSeconds]));
  }

  /** What every node logged last. */
  lastLines(): string {
    return [...this.#nodes].map(([name, { lines }]) => `--- ${name}\n${lines.slice(-15).join("\n")}`).join(
      "\n",
    );
  }

  /** Sends datagrams from within an agent that has neither interface nor socket for them. */
  async measureDialer({ size, rate, milliseconds }: UdpLoad): Promise<UdpResult> {
    const { path } = await this.#ground.identity("agent", "agent-2");
    const args = [path, "udp", `${PORTS.udp}`, `${size}`, `${Math.round(rate)}`, `${milliseconds}`];
    const output = await this.#ground.run("agent2", benchScript("datagram_dialer.ts", args));
    return JSON.parse(output.trim().split("\n").at(-1)!);
  }

  /** QUIC datagrams per second from agent1 to the relay's host, between two bare processes. */
  measureDatagrams(options: { readonly size: number; readonly seconds: number }): Promise<BareDatagrams> {
    const ground = this.#ground;
    return measureBareDatagrams({
      folder: ground.folder,
      address: ground.hosts.host("relay1").address,
      send: (command) => ground.run("agent1", command),
      receive: (command) => ground.spawn("relay1", command),
    }, options);
  }

  /** The agent's resolver asked for services, and for what is none. */
  get resolver(): { readonly own: DnsTarget; readonly others: DnsTarget; readonly raw: DnsTarget } {
    const others = ["www.bench.example", "mail.bench.example", "api.bench.example"];
    return {
      own: { address: RESOLVER, names: Object.keys(PORTS).map((name) => `${name}.ginnel.internal`) },
      others: { address: RESOLVER, names: others },
      raw: { address: OTHER_RESOLVER, names: others },
    };
  }

  /** Asks at a steady rate. */
  async measureDns(
    { address, names }: DnsTarget,
    { perSecond, seconds }: { readonly perSecond: number; readonly seconds: number },
  ): Promise<DnsResult> {
    const command = [
      this.#tools.dnsload,
      "ask",
      address,
      "53",
      `${perSecond}`,
      `${seconds * 1_000}`,
      ...names,
    ];
    return JSON.parse(await this.#ground.run("agent1", command));
  }

  /** Round trips of echo requests, the median in microseconds. */
  async measurePing(address: string, count: number): Promise<number> {
    const output = await this.#ground.run("agent1", ["ping", "-n", "-c", `${count}`, "-i", "0.01", address]);
    const times = [...output.matchAll(/time=([\d.]+) ms/g)].map(([, time]) => Number(time) * 1_000);
    if (times.length < count * 0.95) throw new Error(`Only ${times.length} of ${count} pings came back`);
    return times.toSorted((a, b) => a - b)[times.length >> 1]!;
  }

  /** First byte over HTTP, each on a new connection. */
  async measureHttp(
    { hostname, port, wrap }: LoadTarget,
    count: number,
  ): Promise<{ readonly p50Micros: number; readonly p99Micros: number; readonly failed: number }> {
    return JSON.parse(await runCommand(wrap([this.#tools.netload, "http", hostname, `${port}`, `${count}`])));
  }

  /**
   * Starts the capturing agent anew: it has no session with the connector yet. With `roundTripMs` the way to its relay
   * takes so long from now on.
   */
  async restartAgent({ roundTripMs }: { readonly roundTripMs?: number } = {}): Promise<void> {
    await this.#nodes.get("agent")!.stop({ signal: "SIGINT" });
    if (roundTripMs !== undefined) await this.#startProxy(roundTripMs);
    await this.#startAgent();
  }

  /** Makes that many more services, which nobody offers. */
  async addServices(count: number): Promise<void> {
    const many = Array.from({ length: count }, () => this.#added++);
    const worker = async () => {
      for (let index = many.pop(); index !== undefined; index = many.pop()) await this.#addService(index);
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    await this.#ground.eventually("agent1", this.#lookUp(`extra-${this.#added - 1}`), { timeout: READY_MS });
  }

  /** Milliseconds from the API's answer that makes a service until the agent answers for its name. */
  async measureNewService(): Promise<number> {
    const index = this.#added++;
    await using asking = this.#ground.spawn("agent1", this.#lookUp(`extra-${index}`));
    const found = asking.waitForLine(/^found$/, { timeoutMs: READY_MS }).then(() => performance.now());
    const making = this.#addService(index).then(() => performance.now());
    const [seen, made] = await Promise.all([found, making]);
    return Math.max(0, seen - made);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy?.[Symbol.asyncDispose]();
    await this.#ground[Symbol.asyncDispose]();
  }

  #target(host: "agent1" | "agent2", hostname: string, port: number): LoadTarget {
    return { hostname, port, wrap: (command) => this.#ground.hosts.command(host, command) };
  }

  #lookUp(service: string): string[] {
    return [this.#tools.dnsload, "until", RESOLVER, "53", `${service}.ginnel.internal`];
  }

  async #addService(index: number): Promise<void> {
    await this.#ground.service({ name: `extra-${index}`, fields: { roleAttributes: ["extra"] } });
  }

  async #startSinks(): Promise<void> {
    const ground = this.#ground;
    const { udpload, dnsload } = this.#tools;
    await ground.hosts.configure("conn1", [`addr add ${OTHER_RESOLVER}/32 dev lo`]);
    const conn = ground.hosts.host("conn1").address;
    await ground.hosts.configure("agent1", [`route add ${OTHER_RESOLVER}/32 via ${conn}`]);
    const sinks: readonly (readonly [readonly string[], RegExp])[] = [
      [["iperf3", "--server", "--port", `${PORTS.bulk}`, "--forceflush"], /Server listening/],
      [benchScript("http_server.ts", ["0.0.0.0", `${PORTS.web}`]), /^listening/],
      [[udpload, "serve", "127.0.0.1", `${PORTS.udp}`], /^listening/],
      [[dnsload, "serve", OTHER_RESOLVER, "53"], /^listening/],
    ];
    for (const [command, ready] of sinks) await ground.spawn("conn1", command).waitForLine(ready);
  }

  async #startNodes(): Promise<void> {
    const ground = this.#ground;
    for (const [name, port] of Object.entries(PORTS)) {
      const intercept = {
        addresses: [`${name}.bench.test`],
        portRanges: [{ low: port, high: port }],
        protocols: [name === "udp" ? "udp" : "tcp"],
      };
      await ground.service({ name, intercept });
    }
    await ground.allow("Dial");
    await ground.allow("Bind");
    const services = Object.entries(PORTS).map(([name, port]) => ({
      name,
      upstream: `${name === "udp" ? "udp" : "tcp"}://127.0.0.1:${port}`,
    }));
    this.#nodes.set("connector", await ground.startConnector("conn1", { services }));
    await this.#startAgent();
    const autoForward = { services: { capture: false, autoForward: true, dns: false } };
    this.#nodes.set("agent2", await ground.startAgent("agent2", autoForward));
    for (const name of Object.keys(PORTS)) this.#local.set(name, await this.#localAddress(name));
  }

  async #startProxy(roundTripMs: number): Promise<void> {
    const { hosts } = this.#ground;
    const [wan, relay] = [hosts.host("relay2").address, hosts.host("relay1").address];
    this.#proxy = await UdpProxy.start({
      listen: { hostname: wan, port: RELAY_PORT },
      target: { hostname: relay, port: RELAY_PORT },
      delayMs: roundTripMs / 2,
      loss: 0,
      wrap: (command) => hosts.command("relay2", command),
    });
    // Only QUIC goes by the proxy.
    this.#path = { relays: [{ name: "relay-1", address: `${wan}:${RELAY_PORT}` }], carrier: "quic" };
  }

  async #startAgent(): Promise<void> {
    const ground = this.#ground;
    const forwards = (["bulk", "web"] as const).map((service) => (
      { listen: `127.0.0.1:${PORTS[service]}`, service, port: PORTS[service] }
    ));
    this.#nodes.set("agent", await ground.startAgent("agent1", { services: {}, forwards, ...this.#path }));
    for (const name of Object.keys(PORTS)) {
      this.#virtual.set(name, await this.#virtualAddress(name));
    }
  }

  /** Until the agent's resolver is there, the other one answers for every name. */
  async #virtualAddress(service: string): Promise<string> {
    return await eventually(async () => {
      const found = await this.#ground.run("agent1", ["getent", "ahostsv4", `${service}.ginnel.internal`]);
      const [address = ""] = found.split(/\s/);
      if (!address.startsWith(VIRTUAL)) throw new Error(`${service} is at ${address}`);
      return address;
    }, { timeout: READY_MS });
  }

  async #localAddress(service: string): Promise<string> {
    const config = `${this.#ground.folder}/agent-2.config.json`;
    const program = [Deno.execPath(), "run", "-A", "--unstable-net", MAIN];
    const status = [...program, "status", "--json", "--config", config];
    for (const end = performance.now() + READY_MS; performance.now() < end;) {
      const { services } = JSON.parse(await this.#ground.run("agent2", status)) as {
        services: readonly { readonly name: string; readonly addresses: { readonly local?: string } }[];
      };
      const local = services.find(({ name }) => name === service)?.addresses.local;
      if (local !== undefined) return local;
    }
    throw new Error(`${service} is not forwarded`);
  }
}

const MAIN = new URL("../../main.ts", import.meta.url).pathname;
