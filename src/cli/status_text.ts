/** A node's status for a person: a few lines on how it is, a table of its services, and what to do where something is wrong. */

import type { AgentStatus, ServiceStatus } from "../modes/agent/agent_status.ts";
import type { ConnectorStatus } from "../modes/connector/connector_status.ts";
import type { NodeStatus, RelayStatus } from "../modes/shared/node_status.ts";

/** How to write. */
export interface StatusTextOptions {
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly inColour: boolean;
}

/** Milliseconds before its end from which a certificate is shown as a warning. */
const EXPIRY_NOTICE = 3_600_000;

/** Writes the whole status. */
export function describeStatus(status: AgentStatus | ConnectorStatus, options: StatusTextOptions): string {
  const paint = painter(options.inColour);
  const colour = status.state === "connected" ? "green" : status.state === "degraded" ? "yellow" : "red";
  const head = [
    [
      "state",
      `${paint(status.state, colour)}, version ${status.version}, pid ${status.pid}, started ${
        ago(status.started, options.now)
      }`,
    ],
    ["identity", identityLine(status, options)],
    ...status.relays.map((relay) => ["relay", relayLine(relay, options)]),
    ...(status.controller === undefined ? [] : [["controller", controllerLine(status.controller, options)]]),
    [
      "rights",
      status.view === undefined
        ? paint("none in force", "red")
        : `revision ${status.view.revision}, valid for ${span(status.view.expires, options.now)}`,
    ],
    ...(status.mode === "agent" ? agentLines(status) : [["flows", `${status.flows} open`]]),
  ] as [string, string][];
  const width = Math.max(...head.map(([name]) => name.length));
  const lines = head.map(([name, text]) => `${name.padEnd(width)}  ${text}`);
  lines.push("", ...(status.mode === "agent" ? dialled(status, options) : offered(status, paint)));
  if (status.problems.length > 0) lines.push("");
  for (const { text, hint } of status.problems) lines.push(`${paint("!", "red")} ${text}`, `  -> ${hint}`);
  return lines.join("\n") + "\n";
}

/** How long ago a time was, as people say it. */
export function ago(time: string, now: number): string {
  const seconds = Math.round((now - Date.parse(time)) / 1_000);
  return seconds < 1 ? "just now" : `${lengthOf(seconds)} ago`;
}

/** How long it is until a time. */
function span(time: string, now: number): string {
  return lengthOf(Math.max(0, Math.round((Date.parse(time) - now) / 1_000)));
}

function lengthOf(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

function identityLine({ identity }: NodeStatus, { now, inColour }: StatusTextOptions): string {
  const left = Date.parse(identity.expires) - now;
  const text = left <= 0
    ? `expired ${ago(identity.expires, now)}`
    : `valid for ${span(identity.expires, now)}`;
  const paint = painter(inColour);
  return `${identity.id}, ${
    left <= 0 ? paint(text, "red") : left < EXPIRY_NOTICE ? paint(text, "yellow") : text
  }`;
}

function relayLine(relay: RelayStatus, { now, inColour }: StatusTextOptions): string {
  const paint = painter(inColour);
  const name = `${relay.name} at ${relay.address}`;
  if (relay.draining) return `${name}, ${paint("draining", "yellow")}`;
  if (!relay.connected) {
    const why = relay.problem === undefined ? "" : `: ${relay.problem}`;
    return `${name}, ${paint("not connected", "red")}${why}`;
  }
  const distance = relay.rttMs === undefined ? "" : `, ${relay.rttMs} ms`;
  const since = relay.since === undefined ? "" : ` since ${ago(relay.since, now)}`;
  return `${name}, ${paint("connected", "green")}${since} by ${relay.carrier ?? "?"}${distance}`;
}

function controllerLine(
  { names, asOf }: { readonly names: readonly string[]; readonly asOf?: string },
  { now }: StatusTextOptions,
): string {
  return `${names.join(", ")}${asOf === undefined ? "" : `, last word ${ago(asOf, now)}`}`;
}

function agentLines({ parts, listeners }: AgentStatus): [string, string][] {
  return [
    ...Object.entries(parts).map(([name, { state, detail }]): [string, string] => [
      name,
      detail === undefined ? state : `${state}, ${detail}`,
    ]),
    ...listeners.map(({ name, address }): [string, string] => ["listening", `${name} at ${address}`]),
  ];
}

function dialled({ services, view }: AgentStatus, { now, inColour }: StatusTextOptions): string[] {
  if (services.length === 0) {
    return [view === undefined ? "No services are known yet" : "Policy grants no services to this identity"];
  }
  const rows = services.map((service) => [
    service.name,
    service.names[0] ?? "",
    service.addresses.local ?? service.addresses.ipv4,
    portsOf(service),
    service.path === undefined ? "-" : `${service.path.relay} > ${lastPart(service.path.connector)}`,
    `${service.flows}`,
    service.lastUsed === undefined ? "never" : ago(service.lastUsed, now),
  ]);
  const table = tabulate(["SERVICE", "NAME", "ADDRESS", "PORTS", "PATH", "FLOWS", "LAST USED"], rows);
  const notes = services.flatMap(({ name, notes }) => notes.map((note) => `${name}: ${note}`));
  const [head = "", ...body] = table;
  return [painter(inColour)(head, "bold"), ...body, ...(notes.length === 0 ? [] : ["", ...notes])];
}

function offered({ services }: ConnectorStatus, paint: Paint): string[] {
  if (services.length === 0) return ["No services are offered"];
  const [head = "", ...body] = tabulate(
    ["SERVICE", "HEALTH"],
    services.map(({ name, healthy }) => [name, healthy ? "healthy" : "unhealthy"]),
  );
  return [paint(head, "bold"), ...body];
}

function portsOf({ protocols, ports }: ServiceStatus): string {
  const shown = ports.length === 0
    ? "all"
    : ports.length > 4
    ? `${ports.slice(0, 4).join(",")},...`
    : ports.join(",");
  return `${protocols.join("+")} ${shown}`;
}

function lastPart(uri: string): string {
  return uri.slice(uri.lastIndexOf("/") + 1);
}

function tabulate(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((word, column) => Math.max(word.length, ...rows.map((row) => row[column]!.length)));
  return [head, ...rows].map((row) =>
    row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()
  );
}

const CODES = { bold: 1, red: 31, green: 32, yellow: 33 } as const;

type Paint = (text: string, colour: keyof typeof CODES) => string;

function painter(inColour: boolean): Paint {
  return (text, colour) => inColour ? `\x1b[${CODES[colour]}m${text}\x1b[0m` : text;
}
