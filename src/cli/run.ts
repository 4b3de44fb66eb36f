/**
 * `ginnel run`: starts the node of a config file and keeps it running until a signal.
 */

import { errorCode, errorMessage } from "../base/errors.ts";
import { createLogger, type Logger } from "../base/log.ts";
import { VERSION } from "../base/version.ts";
import { type Config, loadConfig } from "../config/parse_config.ts";
import { runMode } from "../modes/run.ts";
import type { Running } from "../modes/running.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, UsageError } from "./command.ts";
import { configOfIdentity, requireConfig } from "./find_config.ts";
import { onReload, untilStopped } from "./stop_signal.ts";
import { logStrayRejections } from "./stray_rejections.ts";

const HELP = `Usage: ginnel run [--config FILE | --identity FILE]

Starts the relay, controller, connector or agent that a config file describes: the first there is of
/etc/ginnel/config.json, ~/.config/ginnel/config.json and ./ginnel.json, or the one named. Log lines are JSON on
standard output.

  --config FILE    the config file, JSON
  --identity FILE  start an agent with this identity and no config: every service that policy grants appears by name

Signals: SIGTERM and SIGINT drain and stop, a second one stops at once; SIGHUP reads policy and certificates again.
Exit codes: 0 stopped when asked, 1 failed, 2 wrong command line, config, policy or identity file.
`;

/** Runs `ginnel run ...` and returns the exit code once the node has stopped. */
export function runCommand(args: string[], io: CommandIo): Promise<number> {
  const flags = { config: "text", identity: "text" } as const;
  return execute({ name: "run", help: HELP, flags, run }, args, io);
}

async function run(flags: Flags, io: CommandIo): Promise<number> {
  const config = await chooseConfig(flags);
  const logger = createLogger({ level: config.log.level, write: io.stdout });
  logStrayRejections(logger);
  const stopped = untilStopped();
  logger.info("starting", { mode: config.mode, version: VERSION, pid: Deno.pid });
  // A relay may wait long for its controller.
  const running = await Promise.race([runMode(config, { logger, announce: io.stderr }), stopped]);
  if (typeof running === "string") return EXIT.done;
  const stopReloading = onReload(() => void reload(running, logger));
  const reason = await Promise.race([stopped, running.closed]);
  stopReloading();
  if (reason === undefined) {
    logger.error("stopped_unasked", {});
    return EXIT.failed;
  }
  await running.shutdown(reason);
  return EXIT.done;
}

async function chooseConfig({ config, identity }: Flags): Promise<Config> {
  if (typeof identity !== "string") {
    return await loadConfig(typeof config === "string" ? config : await requireConfig());
  }
  if (config !== undefined) throw new UsageError("Give either --config or --identity, not both");
  return await configOfIdentity(identity);
}

async function reload(running: Running, logger: Logger): Promise<void> {
  try {
    await running.reload();
  } catch (error) {
    logger.error("reload_failed", { code: errorCode(error), reason: errorMessage(error) });
  }
}
