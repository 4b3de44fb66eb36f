/**
 * What `ginnel doctor` looks at where services are to appear on this machine: what capturing them needs, and whether
 * names lead to where the running agent says.
 */

import { errorMessage } from "../base/errors.ts";
import type { Config } from "../config/parse_config.ts";
import { type AgentConfig, servicesOf } from "../config/schema/agent.ts";
import { probeName } from "../modes/doctor/probe_names.ts";
import { probeResolver } from "../modes/doctor/probe_resolver.ts";
import { probeIp, probeTun } from "../modes/doctor/probe_tunnel.ts";
import type { AgentStatus } from "../modes/agent/agent_status.ts";
import { askStatus } from "../modes/status/ask_status.ts";
import { controlSocketsOfConfig } from "./control_sockets.ts";
import type { Finding } from "./report.ts";

/** Names that are looked up: the first ones, alphabetically. */
const MAX_NAMES = 3;

/** Looks at what services need here; nothing for other modes, or where they are not to appear. */
export async function inspectServices(config: Config | undefined): Promise<Finding[]> {
  if (config?.mode !== "agent" || servicesOf(config) === undefined) return [];
  const status = await runningAgent(config);
  const capture = status?.parts.capture?.state === "on" ? [] : await inspectCapture(config);
  return [...capture, ...await inspectAgent(status)];
}

/** Whether this machine asks an agent for names that no longer runs. */
export async function inspectResolver(): Promise<Finding[]> {
  const names = await probeResolver();
  return names.map((name) => ({
    verdict: "fail",
    subject: "DNS",
    text: `this machine's resolver is as a killed agent left it, for ${name}: names may not be answered`,
    hint: "Start an agent, with any config: it puts the resolver back; so does ginnel service uninstall",
  }));
}

/** Judges the addresses that this machine's programs get for a service's name. */
export function judgeName(
  { names: [name = ""], addresses }: Pick<AgentStatus["services"][number], "names" | "addresses">,
  found: readonly string[] | Error,
): Finding {
  const subject = "DNS";
  const hint =
    "Look who answers: resolvectl query NAME, or cat /etc/resolv.conf; the agent's resolver must be asked first";
  if (found instanceof Error) return { verdict: "fail", subject, text: `${name}: ${found.message}`, hint };
  const ours: readonly string[] = [addresses.ipv4, addresses.ipv6];
  const foreign = found.filter((address) => !ours.includes(address));
  if (foreign.length === 0) return { verdict: "ok", subject, text: `${name} is ${found.join(", ")}` };
  const text = `${name} is ${foreign.join(", ")} here, but ${addresses.ipv4} to the agent`;
  return { verdict: "fail", subject, text, hint };
}

async function inspectCapture(config: AgentConfig): Promise<Finding[]> {
  const { capture, autoForward, interface: name } = servicesOf(config)!;
  if (capture === false) return [];
  const lack = probeTun(name) ?? await probeIp();
  const subject = "capture";
  if (lack === undefined) {
    return [{ verdict: "ok", subject, text: "services can get addresses of their own" }];
  }
  const isNeeded = capture === true;
  const instead = isNeeded || autoForward === false
    ? ""
    : "; services are at addresses in 127.0.0.0/8 instead";
  return [{
    verdict: isNeeded ? "fail" : "warn",
    subject,
    text: `${errorMessage(lack)}${instead}`,
    hint: lack.hint ?? "Start the agent as a service: ginnel service install",
  }];
}

/** What the running agent finds wrong, and where this machine says that the names lead which it serves. */
async function inspectAgent(status: AgentStatus | undefined): Promise<Finding[]> {
  if (status === undefined) {
    const hint = "Start it: ginnel run, or systemctl start ginnel-agent";
    return [{ verdict: "warn", subject: "agent", text: "not running: no name can be looked up", hint }];
  }
  const running: Finding = { verdict: "ok", subject: "agent", text: `${status.state}, pid ${status.pid}` };
  const problems = status.problems.map(({ text, hint }): Finding => ({
    verdict: "warn",
    subject: "agent",
    text,
    hint,
  }));
  if (status.parts.dns?.state !== "on") return [running, ...problems];
  const names = await Promise.all(
    status.services.slice(0, MAX_NAMES).map(async (service) => {
      const found = await probeName(service.names[0]!).catch((error: unknown) =>
        new Error(errorMessage(error))
      );
      return judgeName(service, found);
    }),
  );
  return [running, ...problems, ...names];
}

async function runningAgent(config: AgentConfig): Promise<AgentStatus | undefined> {
  for (const socket of await controlSocketsOfConfig(config)) {
    try {
      const status = await askStatus(socket);
      if (status.mode === "agent") return status;
    } catch {
      // Where nobody answers there may be another place; that nobody does at all is told.
    }
  }
  return undefined;
}
