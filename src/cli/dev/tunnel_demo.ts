/**
 * The part of the demo that needs root: a relay, an agent, a connector and an internet in network namespaces of their
 * own. Shows a service by its name; and an IP tunnel, by a request that the egress policy allows and one that it refuses.
 */

import { sleep, withSignal } from "../../base/async.ts";
import { GinnelError } from "../../base/errors.ts";
import { probeIp, probeNft, probeTun } from "../../modes/doctor/probe_tunnel.ts";
import type { CommandIo } from "../ca.ts";
import type { DemoFolder } from "./demo_folder.ts";
import { DEMO_ADDRESSES, DemoHosts } from "./demo_hosts.ts";
import {
  DEMO_NAME,
  DEMO_SERVICE,
  DEMO_TUNNEL_AUDIT,
  DEMO_TUNNEL_INTERFACE,
  writeTunnelNetwork,
} from "./demo_network.ts";
import { DemoProcess } from "./demo_process.ts";
import type { Answer } from "./inside.ts";
import { Milestones } from "./milestones.ts";

/** Milliseconds that each step of the start may take. */
const START_TIMEOUT_MS = 15_000;

/** Milliseconds within which the relay's audit log has a decision. */
const AUDIT_TIMEOUT_MS = 3_000;

const WEB = `http://${DEMO_ADDRESSES.web}/`;
const FORBIDDEN = `http://${DEMO_ADDRESSES.forbidden}/`;
const NAMED = `http://${DEMO_NAME}/`;

const LEFT_OUT = "Services by name and the IP tunnel are left out";

/** What this part works with. */
export interface TunnelDemoOptions {
  readonly folder: DemoFolder;
  readonly io: CommandIo;
  readonly log: (line: string) => void;
  /** The user asked to stop. */
  readonly signal: AbortSignal;
}

/** Makes the namespaces; undefined, with a line that says why, where this machine lets nobody make them. */
export async function makeHosts(folder: DemoFolder, io: CommandIo): Promise<DemoHosts | undefined> {
  const missing = await missingForTunnel();
  try {
    if (missing === undefined) return await DemoHosts.create(folder.name);
  } catch (error) {
    if (!(error instanceof GinnelError)) throw error;
    io.stdout(`\n${LEFT_OUT}: no network namespaces can be made here: ${error.message}\n`);
    return undefined;
  }
  io.stdout(`\n${LEFT_OUT}: ${missing}.\n`);
  return undefined;
}

/** A running tunnel; disposing it stops its nodes. */
export class TunnelDemo implements AsyncDisposable {
  readonly #options: TunnelDemoOptions;
  readonly #hosts: DemoHosts;
  readonly #parts: DemoProcess[] = [];

  private constructor(options: TunnelDemoOptions, hosts: DemoHosts) {
    this.#options = options;
    this.#hosts = hosts;
  }

  /** Starts the nodes; rejects with why one of them ended, or when the user asked to stop. */
  static async start(hosts: DemoHosts, options: TunnelDemoOptions): Promise<TunnelDemo> {
    const demo = new TunnelDemo(options, hosts);
    try {
      await demo.#start();
      return demo;
    } catch (error) {
      await demo[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Shows service and tunnel and prints how that went; returns whether it went as it should. */
  async show(): Promise<boolean> {
    const named = await this.#showName();
    return await this.#showTunnel() && named;
  }

  /** Asks the service by its name, as any program does, and pings it. */
  async #showName(): Promise<boolean> {
    const { io, signal } = this.#options;
    const { resolver } = DEMO_ADDRESSES;
    const [agentHost, serviceHost] = (["agent", "service"] as const).map((host) =>
      this.#hosts.namespace(host)
    );
    io.stdout(`
A service by its name, in network namespaces of its own:

  ${serviceHost}    identity connector/laptop offers "${DEMO_SERVICE}", a web server on its 127.0.0.1:80
  ${agentHost}      identity agent/alice, no config for "${DEMO_SERVICE}"; programs ask its agent for names, at ${resolver}

Making a request to ${NAMED}...
`);
    const asked = await this.#ask(NAMED);
    if (asked.text === undefined) {
      io.stderr(`It did not work: ${asked.fault}. The log named above says why.\n`);
      return false;
    }
    io.stdout(`It worked, in ${asked.milliseconds.toFixed(1)} ms. The service said: ${asked.text}`);
    const { code, stdout, stderr } = await this.#hosts.run("agent", PING, signal);
    signal.throwIfAborted();
    const [, address, time] = /\(([0-9a-f.:]+)\).* = [\d.]+\/([\d.]+)\//s.exec(stdout) ?? [];
    if (code === 0 && time !== undefined) {
      io.stdout(`ping ${DEMO_NAME} (${address}): the connector answers, in ${time} ms on average.\n`);
    } else if (/No such file|not found/.test(stderr)) {
      io.stdout("ping is left out: it is not installed.\n");
    } else {
      io.stderr(`ping ${DEMO_NAME} did not work: ${(stderr || stdout).trim()}\n`);
      return false;
    }
    return true;
  }

  /** Makes both requests through the tunnel. */
  async #showTunnel(): Promise<boolean> {
    const { io } = this.#options;
    const [address = "no address"] = await this.#hosts.addressesOf("agent", DEMO_TUNNEL_INTERFACE);
    io.stdout(this.#describe(address));
    io.stdout(`\nMaking a request through the tunnel, to ${WEB}...\n`);
    const allowed = await this.#ask(WEB);
    if (allowed.text === undefined) {
      io.stderr(`It did not work: ${allowed.fault}. The log named above says why.\n`);
      return false;
    }
    const rule = await this.#ruleFor(DEMO_ADDRESSES.web);
    io.stdout(
      `It worked, in ${allowed.milliseconds.toFixed(1)} ms. The internet said: ${allowed.text}` +
        `Allowed by the egress rule "${rule}"; ${DEMO_ADDRESSES.relayOutside} is the relay's NAT.\n`,
    );
    const refused = await this.#ask(FORBIDDEN);
    const refusal = await this.#ruleFor(DEMO_ADDRESSES.forbidden);
    if (refused.text !== undefined) {
      io.stderr(`${FORBIDDEN} answered, though the policy forbids it.\n`);
      return false;
    }
    io.stdout(`${FORBIDDEN} is out of reach: refused by the egress rule "${refusal}".\n`);
    return true;
  }

  /** Lines to try. */
  get hint(): string {
    const exec = `ip netns exec ${this.#hosts.namespace("agent")}`;
    const lines = [
      `curl ${NAMED}`,
      `ping -c 4 ${DEMO_NAME}`,
      `curl ${WEB}`,
      `ping -c 4 ${DEMO_ADDRESSES.web}`,
    ];
    return lines.map((line) => `  ${exec} ${line}\n`).join("");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The agent first, as with the rest of the demo.
    for (const part of this.#parts.splice(0).reverse()) await part[Symbol.asyncDispose]();
  }

  async #start(): Promise<void> {
    const { folder, log } = this.#options;
    const network = await writeTunnelNetwork(folder.path, DEMO_ADDRESSES);
    const { web, forbidden } = DEMO_ADDRESSES;
    for (
      const [host, addresses] of [["internet", `${web},${forbidden}`], ["service", "127.0.0.1"]] as const
    ) {
      const ready = Promise.withResolvers<void>();
      const server = this.#run(host, {
        part: `web:${addresses}`,
        onLine: (line) => line === "ready" && ready.resolve(),
      });
      await this.#whileRunning(server, ready.promise);
    }
    for (
      const [host, config, milestones] of [
        ["relay", network.relayConfig, ["relay relay_started"]],
        ["service", network.connectorConfig, ["connector service_bound"]],
        ["agent", network.agentConfig, ["agent tunnel_up", "agent capture_up"]],
      ] as const
    ) {
      const reached = new Milestones(milestones);
      const node = this.#run(host, {
        part: `node:${config}`,
        env: { RUNTIME_DIRECTORY: network.stateFolders[host] },
        onLine: (line) => {
          log(`${line}\n`);
          reached.see(line);
        },
      });
      await this.#whileRunning(node, reached.reached(START_TIMEOUT_MS));
    }
  }

  #run(
    host: Parameters<DemoHosts["namespace"]>[0],
    options: Omit<ConstructorParameters<typeof DemoProcess>[0], "namespace">,
  ): DemoProcess {
    const part = new DemoProcess({ namespace: this.#hosts.namespace(host), ...options });
    this.#parts.push(part);
    return part;
  }

  async #whileRunning(part: DemoProcess, step: Promise<unknown>): Promise<void> {
    const ended = part.ended.then((said) => {
      throw new GinnelError("ERR_DEMO_PART", said === "" ? "a part of it ended" : said);
    });
    ended.catch(() => {/* told by the race, or of no more interest */});
    const reached = await withSignal(Promise.race([step, ended]), this.#options.signal);
    if (reached === false) throw new GinnelError("ERR_DEMO_PART", "its parts did not find each other");
  }

  /** Makes a web request on the agent's host. */
  async #ask(url: string): Promise<Answer> {
    let text = "";
    await using asker = new DemoProcess({
      namespace: this.#hosts.namespace("agent"),
      part: `ask:${url}`,
      onLine: (line) => text += line,
    });
    const said = await withSignal(asker.ended, this.#options.signal);
    return text === "" ? { milliseconds: 0, fault: said } : JSON.parse(text);
  }

  /** The rule by which the relay decided on the flow to an address, from its audit log. */
  async #ruleFor(address: string): Promise<string> {
    const path = this.#options.folder.file(DEMO_TUNNEL_AUDIT);
    const deadline = Date.now() + AUDIT_TIMEOUT_MS;
    while (Date.now() < deadline) {
      // A line that is not whole yet is there at the next look.
      const lines = (await Deno.readTextFile(path)).split("\n").slice(0, -1);
      for (const line of lines) {
        const { service, rule } = JSON.parse(line) as { readonly service: string; readonly rule?: string };
        if (rule !== undefined && service.startsWith(`tcp/${address}:`)) return rule;
      }
      await sleep(50, { signal: this.#options.signal });
    }
    throw new GinnelError("ERR_DEMO_AUDIT", `the relay's audit log says nothing of ${address}`);
  }

  #describe(address: string): string {
    const { relay, web, forbidden } = DEMO_ADDRESSES;
    const [agentHost, relayHost, internetHost] = (["agent", "relay", "internet"] as const).map((host) =>
      this.#hosts.namespace(host)
    );
    return `
An IP tunnel, in network namespaces of its own:

  ${agentHost}      ${address} on ${DEMO_TUNNEL_INTERFACE}, identity agent/alice; no other way out
  ${relayHost}      ${relay}:4433, hands out the addresses, decides packet by packet
  ${internetHost}   ${web} and ${forbidden}, web servers
`;
  }
}

/** Three echoes, without a look at names backwards. */
const PING = ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", DEMO_NAME];

/** What keeps this machine from showing a tunnel, in one line; undefined: nothing that can be known before. */
async function missingForTunnel(): Promise<string | undefined> {
  const uid = Deno.uid();
  if (Deno.build.os !== "linux") return "it needs Linux";
  if (uid !== 0) return `it needs root, and this is user ${uid}`;
  const lacks = [await probeIp(), await probeNft(), probeTun(DEMO_TUNNEL_INTERFACE)];
  const reasons = lacks.filter((lack) => lack !== undefined)
    .map(({ message, hint }) => hint === undefined ? message : `${message} (${hint.replace(/\.$/, "")})`);
  return reasons.length === 0 ? undefined : reasons.join("; ");
}
