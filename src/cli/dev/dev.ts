/**
 * `ginnel dev`: a whole network on one machine to try it out. Leaves nothing behind; only the part that shows a service
 * by its name, and an IP tunnel, needs a privilege.
 */

import { sleep, withSignal } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import { createLogger, type Logger } from "../../base/log.ts";
import { loadConfig } from "../../config/parse_config.ts";
import { runMode } from "../../modes/run.ts";
import type { Running } from "../../modes/running.ts";
import type { CommandIo } from "../ca.ts";
import { execute, EXIT } from "../command.ts";
import { DemoFolder } from "./demo_folder.ts";
import { DEMO_SERVICE, type DemoNetwork, type DemoPorts, writeDemoNetwork } from "./demo_network.ts";
import { Milestones } from "./milestones.ts";
import { type DemoService, startDemoService } from "./demo_service.ts";
import { runInside } from "./inside.ts";
import { showOwnAddress } from "./own_address.ts";
import { makeHosts, TunnelDemo, type TunnelDemoOptions } from "./tunnel_demo.ts";

const HELP = `Usage: ginnel dev [--once]

Runs a demo network on this machine: a service that listens only on a unix socket, a connector beside it, a
relay and an agent. Makes requests through all of them, says how they went, and prints the agent's status. As
root it shows a service by its name and an IP tunnel too, in network namespaces of its own. Ctrl-C stops
everything.

Flags:
  --once   stop after the first requests; exit code 0 if they worked, 1 if not
  --help   show this text
`;

/** Ports tried first; a taken one is replaced by any free one. */
const PREFERRED_PORTS: DemoPorts = { relay: 4433, health: 8080, forward: 8000, socks5: 1080 };

/** Milliseconds the first request may take, retries included. */
const FIRST_REQUEST_TIMEOUT_MS = 20_000;

/** Milliseconds the nodes get to find each other before the first request is made all the same. */
const CONNECT_TIMEOUT_MS = 10_000;

/** Runs `ginnel dev`; returns the exit code. `untilStopped` resolves when the user asks to stop. */
export function devCommand(
  args: readonly string[],
  io: CommandIo,
  untilStopped: () => Promise<string>,
): Promise<number> {
  return execute(
    {
      name: "dev",
      help: HELP,
      // `--inside` is for the demo itself: what it starts in its namespaces.
      flags: { once: "switch", inside: "text" },
      run: async (flags, io) => {
        if (typeof flags.inside === "string") {
          await runInside(flags.inside, io);
          return EXIT.done;
        }
        const stop = new AbortController();
        void untilStopped().then((signal) => stop.abort(new StoppedError(signal)));
        await using folder = await DemoFolder.create();
        return await runDemo(folder, { io, isOnce: flags.once === true, signal: stop.signal });
      },
    },
    args,
    io,
  );
}

/** The user asked to stop. */
class StoppedError extends Error {}

interface DemoOptions {
  readonly io: CommandIo;
  readonly isOnce: boolean;
  readonly signal: AbortSignal;
}

async function runDemo(folder: DemoFolder, { io, isOnce, signal }: DemoOptions): Promise<number> {
  io.stdout("Making a CA, three identities, a policy and three configs...\n");
  const ports = choosePorts();
  const network = await writeDemoNetwork(folder.path, ports);
  using logFile = await Deno.open(folder.file("ginnel.log"), { create: true, append: true, mode: 0o600 });
  const encoder = new TextEncoder();
  const log = (line: string) => void logFile.writeSync(encoder.encode(line));
  const connected = new Milestones(["connector service_bound", "agent relay_connected"]);
  const logger = createLogger({
    write: (line) => {
      log(line);
      connected.see(line);
    },
  });
  signal.addEventListener("abort", () => io.stdout("\nStopping...\n"), { once: true });
  try {
    await using parts = new AsyncDisposableStack();
    parts.defer(() => io.stdout("Stopped: everything is gone.\n"));
    const demo = await startDemo(network, logger);
    parts.defer(() => demo.stop());
    io.stdout(describe(folder.path, ports));
    io.stdout("\nWaiting for connector and agent to find the relay...\n");
    await withSignal(connected.reached(CONNECT_TIMEOUT_MS), signal);
    const worked = await firstRequest(ports.forward, { io, signal });
    const own = await showOwnAddress(network.control, { io, signal });
    const tunnel = await showTunnel(parts, { folder, io, log, signal });
    if (isOnce) return worked && own !== undefined && tunnel.worked ? EXIT.done : EXIT.failed;
    const urls = [`http://127.0.0.1:${ports.forward}/`, ...(own === undefined ? [] : [own])];
    const hints = urls.map((url) => `  curl ${url}\n`).join("") + tunnel.hint;
    io.stdout(`\nTry it:\n\n${hints}\nCtrl-C stops everything.\n`);
    await withSignal(new Promise<never>(() => {}), signal);
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof StoppedError)) throw error;
    return isOnce ? EXIT.failed : EXIT.done;
  }
}

/** Shows service and tunnel in namespaces where this machine can; `parts` end it. */
async function showTunnel(
  parts: AsyncDisposableStack,
  options: TunnelDemoOptions,
): Promise<{ readonly worked: boolean; readonly hint: string }> {
  const { folder, io } = options;
  const hosts = await makeHosts(folder, io);
  if (hosts === undefined) return { worked: true, hint: "" };
  parts.use(hosts);
  try {
    const tunnel = parts.use(await TunnelDemo.start(hosts, options));
    return { worked: await tunnel.show(), hint: tunnel.hint };
  } catch (error) {
    if (error instanceof StoppedError) throw error;
    io.stderr(`\nThe IP tunnel did not work: ${errorMessage(error)}\n`);
    return { worked: false, hint: "" };
  }
}

async function startDemo(network: DemoNetwork, logger: Logger): Promise<{ stop(): Promise<void> }> {
  const service: DemoService = startDemoService(network.socket);
  const nodes: Running[] = [];
  for (const path of [network.relayConfig, network.connectorConfig, network.agentConfig]) {
    const config = await loadConfig(path);
    nodes.push(await runMode(config, { logger: logger.with({ mode: config.mode }) }));
  }
  return {
    stop: async () => {
      // The agent first: its clients' flows then end at once, and nothing is left to drain.
      for (const node of nodes.reverse()) await node.shutdown("stopped by the user");
      await service.close();
    },
  };
}

function describe(folder: string, ports: DemoPorts): string {
  return `
What runs, all in this process:

  service    unix:${folder}/hello.sock         listens on no port at all
  connector  identity connector/laptop         dials the relay, offers "${DEMO_SERVICE}"
  relay      127.0.0.1:${ports.relay} (QUIC and TLS)       joins the two, cannot read what they say
             http://127.0.0.1:${ports.health}/ready
  agent      127.0.0.1:${ports.forward} -> ${DEMO_SERVICE}           identity agent/alice
             127.0.0.1:${ports.socks5} (SOCKS5)

  configs, policy, log and audit: ${folder}
`;
}

/** Asks until the first answer comes: the nodes may still be finding each other. */
async function firstRequest(
  port: number,
  { io, signal }: { readonly io: CommandIo; readonly signal: AbortSignal },
): Promise<boolean> {
  io.stdout("\nMaking a request through agent -> relay -> connector -> service...\n");
  const deadline = Date.now() + FIRST_REQUEST_TIMEOUT_MS;
  let fault = "";
  while (Date.now() < deadline) {
    const started = performance.now();
    try {
      const response = await fetch(`http://127.0.0.1:${port}/first`, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(5_000)]),
      });
      const text = await response.text();
      const milliseconds = performance.now() - started;
      if (response.ok) {
        io.stdout(`It worked, in ${milliseconds.toFixed(1)} ms. The service said: ${text}`);
        return true;
      }
      fault = `the answer was ${response.status}`;
    } catch (error) {
      fault = errorMessage(error);
    }
    await sleep(100, { signal });
  }
  io.stderr(`It did not work: ${fault}. The log named above says why.\n`);
  return false;
}

function choosePorts(): DemoPorts {
  const entries = Object.entries(PREFERRED_PORTS).map((
    [part, port],
  ) => [part, isFree(port) ? port : freePort()]);
  return Object.fromEntries(entries) as unknown as DemoPorts;
}

/** Whether both TCP and UDP are free there, on any address: the relay takes both. */
function isFree(port: number): boolean {
  try {
    Deno.listen({ hostname: "0.0.0.0", port }).close();
    Deno.listenDatagram({ transport: "udp", hostname: "0.0.0.0", port }).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return false;
    throw error;
  }
}

function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  return port;
}
