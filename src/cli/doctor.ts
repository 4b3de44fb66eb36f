/**
 * `ginnel doctor`: looks for what keeps this machine from working well, and says what to do.
 */

import { execute, EXIT, type Flags } from "./command.ts";
import type { CommandIo } from "./ca.ts";
import { inspectNetwork } from "./doctor_network.ts";
import { inspectResolver, inspectServices } from "./doctor_services.ts";
import { inspectSystem } from "./doctor_system.ts";
import { inspectTunnelNeeds } from "./doctor_tunnel.ts";
import { findConfig } from "./find_config.ts";
import { inspectConfig } from "./inspect_config.ts";
import { printFindings, worst } from "./report.ts";

const HELP = `Usage: ginnel doctor [--config FILE] [--json]

Looks at this machine: platform, clock, descriptor limit, socket buffers, UDP. With a config also at the config, at
all it names, its certificate, the way to every relay, controller and upstream, the clock by theirs, what an IP tunnel
or services by name need (TUN), and whether the machine's resolver gives the addresses that the running agent does
(DNS). Starts nothing and changes nothing.

  --config FILE  the config file, JSON; else the one that ginnel run would use, if there is any
  --json         print the result as JSON

Exit codes: 0 nothing is in the way (there may be warnings), 1 something is, 2 wrong command line.
`;

/** Runs `ginnel doctor ...` and returns the exit code. */
export function doctorCommand(args: string[], io: CommandIo): Promise<number> {
  return execute(
    { name: "doctor", help: HELP, flags: { config: "text", json: "switch" }, run: doctor },
    args,
    io,
  );
}

async function doctor(flags: Flags, io: CommandIo): Promise<number> {
  const now = Date.now();
  const findings = [...await inspectSystem(now), ...await inspectResolver()];
  const config = typeof flags.config === "string" ? flags.config : await findConfig();
  if (config !== undefined) {
    const inspection = await inspectConfig(config, now);
    findings.push(...inspection.findings, ...await inspectTunnelNeeds(inspection.config));
    findings.push(...await inspectServices(inspection.config));
    findings.push(...await inspectNetwork(inspection));
  }
  printFindings(findings, { io, json: flags.json === true });
  return worst(findings) === "fail" ? EXIT.failed : EXIT.done;
}
