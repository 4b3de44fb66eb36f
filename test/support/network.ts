/**
 * A whole Ginnel network on loopback: relays, connectors and agents from config files in a temporary folder, in
 * this process by default, or each in its own where a test needs signals, crashes or memory. Every port is free,
 * nodes are waited for by what they log, and disposing the network stops and removes everything.
 */

import type { IdentityKind } from "../../src/identity/spiffe_id.ts";
import { Deployment, type DeploymentService } from "./deployment.ts";
import { freePort } from "./free_port.ts";
import { type NetworkNode, processNode, runInProcess } from "./network_node.ts";
import type { ManagedProcess } from "./processes.ts";

/** What a network allows. */
export interface NetworkOptions {
  /** Policy document, written as JSON. Default: every identity may dial and bind every one of `services`. */
  readonly policy?: unknown;
  /** The services of the default policy; default one named `web`. */
  readonly services?: readonly DeploymentService[];
}

/** How to run any node. */
export interface NodeOptions {
  readonly name?: string;
  /** Fields that replace those of the config this helper writes. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Runs the node as a process of its own. */
  readonly separate?: boolean;
}

/** How to run a relay. */
export interface RelayOptions extends NodeOptions {
  /** UDP and TCP port; default a free one. */
  readonly port?: number;
}

/** How to run a connector. */
export interface ConnectorOptions extends NodeOptions {
  /** Upstream of each service, such as `tcp://127.0.0.1:8000`, or its whole entry in the config. */
  readonly services: Readonly<Record<string, string | Readonly<Record<string, unknown>>>>;
  readonly relays: readonly RelayPlace[];
  /** False: do not wait until every relay has bound every service. */
  readonly untilBound?: boolean;
}

/** How to run an agent. */
export interface AgentOptions extends NodeOptions {
  /** Services that get a local port. */
  readonly forwards?: readonly string[];
  readonly relays: readonly RelayPlace[];
  /** False: do not wait until every relay is connected. */
  readonly untilConnected?: boolean;
}

/** Where nodes find a relay: one of ours, a proxy in front of it, or somebody who poses as it. */
export type RelayPlace = Pick<RelayNode, "name" | "port">;

/** A running relay. */
export interface RelayNode extends NetworkNode {
  readonly port: number;
  /** Base URL of its health endpoint, without a slash at the end. */
  readonly health: string;
  readonly process: ManagedProcess | undefined;
  /** Its audit lines so far. */
  audit(): Promise<AuditLine[]>;
}

/** A running connector. */
export interface ConnectorNode extends NetworkNode {
  readonly process: ManagedProcess | undefined;
}

/** A running agent. */
export interface AgentNode extends NetworkNode {
  readonly process: ManagedProcess | undefined;
  /** Local port of a service's forward. */
  forward(service: string): number;
  readonly socks5: number;
  readonly httpProxy: number;
}

/** One line of a relay's audit log. */
export interface AuditLine {
  readonly time: string;
  readonly event: "connect" | "deny" | "close";
  readonly who: string;
  readonly service: string;
  readonly outcome: string;
  readonly reason?: string;
  readonly connector?: string;
  readonly flow?: string;
  readonly bytesIn?: number;
  readonly bytesOut?: number;
  readonly packetsIn?: number;
  readonly packetsOut?: number;
  readonly durationMs?: number;
}

/** Trust domain of every test network. */
export const TRUST_DOMAIN = "test.example";

/** The SPIFFE ID of an identity of a test network. */
export function spiffeId(kind: IdentityKind, name: string): string {
  return `spiffe://${TRUST_DOMAIN}/${kind}/${name}`;
}

/** A network in a folder of its own. */
export class Network implements AsyncDisposable {
  readonly #deployment: Deployment;
  readonly #nodes: NetworkNode[] = [];
  readonly #issued = new Map<string, Promise<string>>();

  /** Makes folder, CA and policy; no node runs yet. */
  static async create(options: NetworkOptions = {}): Promise<Network> {
    const { services = [{ name: "web" }], policy } = options;
    const network = new Network(await Deployment.create({ services }));
    if (policy !== undefined) await network.writePolicy(policy);
    return network;
  }

  private constructor(deployment: Deployment) {
    this.#deployment = deployment;
  }

  /** Where everything lies. */
  get folder(): string {
    return this.#deployment.folder;
  }

  /** The CA's certificate, PEM. */
  get root(): string {
    return this.#deployment.root;
  }

  /** Issues an identity, once however often it is asked for, and returns its file's path. */
  issue(kind: IdentityKind, name: string): Promise<string> {
    const key = `${kind}/${name}`;
    const issued = this.#issued.get(key) ?? this.#deployment.issue(kind, name);
    this.#issued.set(key, issued);
    return issued;
  }

  /** Replaces `policy.json`, the policy file of every relay, with a document or, to break it, with any text. */
  async writePolicy(policy: unknown): Promise<void> {
    const text = typeof policy === "string" ? policy : JSON.stringify(policy, undefined, 2);
    const path = `${this.folder}/policy.json`;
    // Replaced in one step, as an editor does: a relay must never see half of it.
    await Deno.writeTextFile(`${path}.new`, text);
    await Deno.rename(`${path}.new`, path);
  }

  /** Starts a relay; resolves when it serves. */
  async relay(options: RelayOptions = {}): Promise<RelayNode> {
    const { name = "relay-1", port = freePort(), config = {} } = options;
    const audit = `${this.folder}/${name}.audit.jsonl`;
    const { node, process } = await this.#start(name, {
      mode: "relay",
      identity: await this.issue("relay", name),
      listen: { quic: `127.0.0.1:${port}`, tls: `127.0.0.1:${port}` },
      policy: ["policy.json"],
      authority: { key: "ca/authority.key" },
      health: "127.0.0.1:0",
      audit: { file: audit },
      drainSeconds: 1,
      log: { level: "debug" },
      ...config,
    }, options);
    await node.waitForLine(/"relay_started"/);
    const [, address] = await node.waitForLine(/"health_listening","address":"([^"]+)"/);
    return Object.assign(node, {
      port,
      health: `http://${address}`,
      process,
      audit: () => readAudit(audit),
    });
  }

  /** Starts a connector; resolves when every relay has bound its services. */
  async connector(options: ConnectorOptions): Promise<ConnectorNode> {
    const { name = "connector-1", services, relays, config = {}, untilBound = true } = options;
    const { node, process } = await this.#start(name, {
      mode: "connector",
      identity: await this.issue("connector", name),
      control: `unix:${this.folder}/${name}.sock`,
      relays: relays.map(addressOf),
      services: Object.entries(services).map(([name, entry]) =>
        typeof entry === "string" ? { name, upstream: entry } : { name, ...entry }
      ),
      log: { level: "debug" },
      ...config,
    }, options);
    if (untilBound) {
      for (const relay of relays) {
        for (const service of Object.keys(services)) {
          await node.waitForLine(
            new RegExp(`"service_bound".*"relay":"${relay.name}","service":"${service}"`),
          );
        }
      }
    }
    return Object.assign(node, { process });
  }

  /** Starts an agent with SOCKS5 and HTTP proxies; resolves when it is connected to every relay. */
  async agent(options: AgentOptions): Promise<AgentNode> {
    const { name = "alice", forwards = [], relays, config = {}, untilConnected = true } = options;
    const { node, process } = await this.#start(name, {
      mode: "agent",
      identity: await this.issue("agent", name),
      control: null,
      relays: relays.map(addressOf),
      forwards: forwards.map((service) => ({ listen: `127.0.0.1:${freePort()}`, service })),
      socks5: "127.0.0.1:0",
      httpProxy: "127.0.0.1:0",
      log: { level: "debug" },
      ...config,
    }, options);
    if (untilConnected) {
      for (const relay of relays) {
        await node.waitForLine(new RegExp(`"relay_connected".*"relay":"${relay.name}"`));
      }
    }
    const ports = await localPorts(node, forwards);
    return Object.assign(node, { process, ...ports });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The agents first, which were started last: their flows then end at once, and nothing is left to drain.
    for (const node of this.#nodes.reverse()) await node.stop();
    await this.#deployment[Symbol.asyncDispose]();
  }

  async #start(
    name: string,
    config: Readonly<Record<string, unknown>>,
    { separate = false }: NodeOptions,
  ): Promise<{ node: NetworkNode; process: ManagedProcess | undefined }> {
    const process = separate ? await this.#deployment.start(name, config) : undefined;
    const node = process === undefined
      ? await runInProcess(name, await this.#deployment.writeConfig(name, config))
      : processNode(process);
    this.#nodes.push(node);
    return { node, process };
  }
}

/** Where an agent listens, read from what it logs: its forwards, and both proxies. */
export async function localPorts(
  node: NetworkNode,
  forwards: readonly string[],
): Promise<Pick<AgentNode, "forward" | "socks5" | "httpProxy">> {
  const ports = new Map<string, number>();
  for (const listener of [...forwards.map((service) => `forward to ${service}`), "socks5", "http_proxy"]) {
    const [, port] = await node.waitForLine(
      new RegExp(`"listening".*"listener":"${listener}","address":"[^"]*:(\\d+)"`),
    );
    ports.set(listener, Number(port));
  }
  return {
    forward: (service) => ports.get(`forward to ${service}`)!,
    socks5: ports.get("socks5")!,
    httpProxy: ports.get("http_proxy")!,
  };
}

function addressOf(relay: RelayPlace): { name: string; address: string } {
  return { name: relay.name, address: `127.0.0.1:${relay.port}` };
}

/** The whole lines of a relay's audit file. */
export async function readAudit(path: string): Promise<AuditLine[]> {
  const text = await Deno.readTextFile(path);
  // The last line may still be on its way.
  return text.slice(0, text.lastIndexOf("\n") + 1).split("\n").filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}
