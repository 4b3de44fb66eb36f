/** `ginnel status`: how the agent or connector that runs on this machine is, for a person or as JSON. */

import { GinnelError } from "../base/errors.ts";
import { loadConfig } from "../config/parse_config.ts";
import { type AnyStatus, askStatus, findControlSockets } from "../modes/status/ask_status.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, UsageError } from "./command.ts";
import { controlSocketsOfConfig } from "./control_sockets.ts";
import { describeStatus } from "./status_text.ts";

const HELP = `Usage: ginnel status [--config FILE | --socket PATH] [--json]

Says how the agent or connector that runs here is: its relays, its identity, and every service, with its address, the
way its last flow took and when that was.

  --config FILE  the config that it was started with; needed where several run
  --socket PATH  its control socket
  --json         print all it tells as JSON

Exit codes: 0 connected, 1 not running or not to be asked, 2 wrong command line, 3 not connected, or not all works.
`;

/** Exit code for a node that runs, but does not work as it should. */
const EXIT_DEGRADED = 3;

/** Runs `ginnel status ...` and returns the exit code. */
export function statusCommand(args: string[], io: CommandIo): Promise<number> {
  const flags = { config: "text", socket: "text", json: "switch" } as const;
  return execute({ name: "status", help: HELP, flags, run: status }, args, io);
}

async function status({ config, socket, json }: Flags, io: CommandIo): Promise<number> {
  if (config !== undefined && socket !== undefined) {
    throw new UsageError("Give either --config or --socket, not both");
  }
  const answer = typeof socket === "string"
    ? await askStatus(socket)
    : await askOneOf(typeof config === "string" ? await socketsOfConfig(config) : await findControlSockets());
  io.stdout(
    json === true
      ? JSON.stringify(answer, undefined, 2) + "\n"
      : describeStatus(answer, { now: Date.now(), inColour: io.isTerminal }),
  );
  return answer.state === "connected" ? EXIT.done : EXIT_DEGRADED;
}

/** Where the node of a config may listen. */
async function socketsOfConfig(file: string): Promise<string[]> {
  const config = await loadConfig(file);
  if (config.mode !== "agent" && config.mode !== "connector") {
    throw new UsageError(`${file} is the config of a ${config.mode}, which has a health address instead`);
  }
  const sockets = await controlSocketsOfConfig(config);
  if (sockets.length > 0) return sockets;
  throw new UsageError(
    config.control === null
      ? `${file} sets "control" to null: nobody can ask its node`
      : `An SVID may change its name: set "control" in ${file}, or give --socket`,
  );
}

/** Asks the one node that answers; sockets of killed ones are passed over. */
async function askOneOf(sockets: readonly string[]): Promise<AnyStatus> {
  const answers = new Map<string, AnyStatus>();
  let denied: GinnelError | undefined;
  for (const socket of sockets) {
    try {
      answers.set(socket, await askStatus(socket));
    } catch (error) {
      if (!(error instanceof GinnelError)) throw error;
      if (error.code !== "ERR_NOT_RUNNING") denied ??= error;
    }
  }
  const [first, ...others] = answers.values();
  if (others.length > 0) {
    const list = [...answers].map(([socket, { identity }]) => `\n  ${socket}  ${identity.id}`).join("");
    throw new UsageError(`Several nodes run here:${list}\nName one with --socket`);
  }
  if (first !== undefined) return first;
  throw denied ?? new GinnelError("ERR_NOT_RUNNING", "No agent or connector of yours runs here", {
    hint: "Start one: ginnel run, or systemctl start ginnel-agent",
  });
}
