/** What users of a service ground ask their machine: how the agent is, what doctor finds, whom names are. */

import type { AgentStatus } from "../../src/modes/agent/agent_status.ts";
import { askStatus } from "../../src/modes/status/ask_status.ts";
import { PROGRAM } from "./deployment.ts";
import { eventually } from "./eventually.ts";
import type { ServiceGround, ServiceHost } from "./service_ground.ts";

/** A finding of doctor's. */
export interface DoctorFinding {
  readonly verdict: "ok" | "warn" | "fail";
  readonly subject: string;
  readonly text: string;
  readonly hint?: string;
}

/** What an agent on a host tells of itself. */
export async function statusOf(
  ground: ServiceGround,
  host: ServiceHost,
  name = host.replace("agent", "agent-"),
): Promise<AgentStatus> {
  const folder = `${ground.folder}/run-${host}`;
  for (const entry of Deno.readDirSync(folder)) {
    if (!entry.name.startsWith(`agent-${name}-`) || !entry.name.endsWith(".sock")) continue;
    const status = await askStatus(`${folder}/${entry.name}`);
    if (status.mode === "agent") return status;
  }
  throw new Error(`No agent ${name} answers on ${host}`);
}

/** Waits until the agent's resolver is asked for names on a host. */
export async function untilNamed(ground: ServiceGround, host: ServiceHost, name?: string): Promise<void> {
  await eventually(async () => {
    const { detail = "", state } = (await statusOf(ground, host, name)).parts.dns!;
    return state === "on" && / at \S.*asked by (systemd|Network|resolv)/.test(detail);
  }, { timeout: 20_000, interval: 50 });
}

/** What doctor says on a host about the config of a node that was started there, with its exit code. */
export async function doctor(
  ground: ServiceGround,
  { host, name = host.replace("agent", "agent-"), prefix = [] }: {
    readonly host: ServiceHost;
    readonly name?: string;
    readonly prefix?: readonly string[];
  },
): Promise<{ readonly code: number; readonly findings: readonly DoctorFinding[] }> {
  const config = `${ground.folder}/${name}.config.json`;
  const command = [...prefix, ...PROGRAM, "doctor", "--json", "--config", config];
  const output = await ground.run(host, ["sh", "-c", '"$@"; echo "exit $?"', "sh", ...command]);
  const [, text, code] = /^([^]*)exit (\d+)\n$/.exec(output)!;
  return { code: Number(code), findings: JSON.parse(text!).findings };
}

/** The answer to a query on a host: `NOERROR` and addresses, or another code. */
export async function dig(
  ground: ServiceGround,
  { host, name, options = [] }: {
    readonly host: ServiceHost;
    readonly name: string;
    readonly options?: readonly string[];
  },
): Promise<{ readonly code: string; readonly answers: readonly string[] }> {
  const output = await ground.run(host, [
    ...["dig", "+tries=1", "+time=6", "+noall", "+comments", "+answer", ...options, name],
  ]);
  const answers = output.split("\n").filter((line) => /^[^;\s]/.test(line)).map((line) =>
    line.split(/\s+/)[4]!
  );
  return { code: /status: ([A-Z]+)/.exec(output)![1]!, answers };
}
