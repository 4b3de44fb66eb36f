/**
 * Looks at the tunnel settings of a config and at the files they name: egress policy and leases at the relay, the
 * roots of a foreign proxy at the agent.
 */

import { dirname } from "node:path";
import { GinnelError } from "../base/errors.ts";
import { formatPrefix } from "../base/ip.ts";
import { loadEgress } from "../config/egress_file.ts";
import { readTextFile } from "../config/read_text_file.ts";
import type { AgentTunnelConfig, RelayTunnelConfig } from "../config/schema/tunnel.ts";
import type { EgressDocument } from "../core/egress/document.ts";
import { compileEgress, type EgressWarning } from "../core/egress/snapshot.ts";
import { Ipam } from "../core/ipam.ts";
import type { PolicyDocument } from "../core/policy/document.ts";
import { RelayLeases } from "../modes/leases/relay_leases.ts";
import { poolsOf, reservationsOf } from "../modes/relay/tunnel/address_plan.ts";
import type { Finding } from "./report.ts";

/** One step of an inspection: what it finds, or the error that says what is wrong. */
export interface InspectionStep {
  readonly subject: string;
  readonly look: () => Promise<Finding[]>;
}

/** What belongs to a relay's tunnel settings. */
export interface RelayTunnelSurroundings {
  /** The config file itself. */
  readonly file: string;
  /** Undefined where the identity could not be read. */
  readonly trustDomain: string | undefined;
  /** Undefined where the policy could not be read. */
  readonly policy: PolicyDocument | undefined;
}

/** Rules that do nothing: more than these are counted only. */
const MAX_WARNINGS = 10;

/** Bytes of the largest file with roots that is read. */
const MAX_ROOTS_BYTES = 1024 * 1024;

/** The steps for a relay's tunnel settings. */
export function relayTunnelSteps(
  tunnel: RelayTunnelConfig,
  surroundings: RelayTunnelSurroundings,
): InspectionStep[] {
  const { trustDomain, file } = surroundings;
  return [
    ...(trustDomain === undefined
      ? []
      : [{ subject: "tunnel", look: () => inspectAddresses(tunnel, trustDomain) }]),
    { subject: "egress", look: () => inspectEgress(tunnel, surroundings) },
    { subject: "leases", look: () => inspectLeases(tunnel, file) },
  ];
}

/** The steps for an agent's tunnel settings. */
export function agentTunnelSteps(tunnel: AgentTunnelConfig): InspectionStep[] {
  return [{ subject: "tunnel", look: () => inspectAgentTunnel(tunnel) }];
}

async function inspectAddresses(tunnel: RelayTunnelConfig, trustDomain: string): Promise<Finding[]> {
  const { ipv4, ipv6 } = await poolsOf(tunnel, trustDomain);
  const reservations = reservationsOf(tunnel.reservations, { trustDomain });
  // Refuses what lies in no pool, as the relay would.
  const ipam = new Ipam({ ipv4, ipv6, reservations, leaseTime: tunnel.leaseTime });
  const pools = ipam.stats().map(({ version, size }) => {
    const pool = version === 4 ? ipv4 : ipv6;
    return `${pool === null ? "" : formatPrefix(pool)} for ${size} clients`;
  });
  const text = `${tunnel.interface}, ${pools.join(", ")}, nat ${tunnel.nat}`;
  return [{ verdict: "ok", subject: "tunnel", text }];
}

async function inspectEgress(
  tunnel: RelayTunnelConfig,
  { trustDomain = "unknown.invalid", policy }: RelayTunnelSurroundings,
): Promise<Finding[]> {
  const document = await loadEgress(tunnel.policy);
  const { ipv4, ipv6 } = await poolsOf(tunnel, trustDomain);
  const pools = [ipv4, ipv6].filter((pool) => pool !== null);
  const { clients, defaultAction } = document;
  const rules = clients.reduce((sum, client) => sum + client.rules.length, 0);
  const text = `${clients.length} clients, ${rules} rules, otherwise ${defaultAction}`;
  const warnings = [
    ...compileEgress(document, { trustDomain, pools }).warnings.map(describeWarning),
    ...(policy === undefined ? [] : unknownAttributes(document, policy).map(describeAttribute)),
  ];
  const findings = warnings.slice(0, MAX_WARNINGS);
  const more = warnings.length - findings.length;
  if (more > 0) {
    const hint = "Correct those above first";
    findings.push({ verdict: "warn", subject: "egress", text: `${more} more rules do nothing`, hint });
  }
  return [{ verdict: "ok", subject: "egress", text }, ...findings];
}

function describeWarning({ client, rule, reason }: EgressWarning): Finding {
  const place = `${client}, rule ${rule}`;
  switch (reason) {
    case "after_default":
      return {
        verdict: "warn",
        subject: "egress",
        text: `${place}: never reached, since a default rule stands before it`,
        hint: "Move it before the default rule, or remove it",
      };
    case "destination_not_routable":
      return {
        verdict: "warn",
        subject: "egress",
        text: `${place}: loopback, link-local and multicast destinations are dropped whatever a rule says`,
        hint: "Remove the rule, or correct its destinations",
      };
  }
}

function describeAttribute(attribute: string): Finding {
  const hint = "Give it to somebody in the policy files, or correct its spelling";
  return { verdict: "warn", subject: "egress", text: `nobody has the attribute #${attribute}`, hint };
}

/** Attributes that egress rules name and the policy gives to nobody. */
function unknownAttributes({ clients }: EgressDocument, { identities }: PolicyDocument): string[] {
  const known = new Set(["all", ...identities.flatMap(({ roleAttributes }) => roleAttributes)]);
  const words = clients.flatMap(({ client, rules }) => [
    client,
    ...rules.flatMap((rule) => rule.type === "identity" ? rule.destinations : []),
  ]);
  const named = words.filter((word) => word.startsWith("#")).map((word) => word.slice(1));
  return [...new Set(named)].filter((attribute) => !known.has(attribute));
}

async function inspectLeases({ leases }: RelayTunnelConfig, file: string): Promise<Finding[]> {
  const folder = dirname(leases);
  const info = await Deno.stat(folder).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  if (info?.isDirectory !== true) {
    throw new GinnelError("ERR_LEASES_FOLDER", `${folder} is no folder`, {
      hint: "Make it, owned by the user the relay runs as, or name another file as tunnel.leases",
    });
  }
  const stored = await (await RelayLeases.of(file)).list();
  return [{ verdict: "ok", subject: "leases", text: `${stored.length} in ${leases}` }];
}

async function inspectAgentTunnel(tunnel: AgentTunnelConfig): Promise<Finding[]> {
  const { proxy, routes, killSwitch, dns } = tunnel;
  if (proxy !== undefined) {
    const roots = await readTextFile(proxy.roots, { code: "ERR_CONFIG", maxBytes: MAX_ROOTS_BYTES });
    if (!roots.includes("-----BEGIN CERTIFICATE-----")) {
      throw new GinnelError("ERR_ROOTS", `${proxy.roots} holds no certificate`, {
        hint: "Name a PEM file with the certificates that vouch for the proxy as tunnel.proxy.roots",
      });
    }
  }
  const parts = [
    tunnel.interface,
    `routes ${typeof routes === "string" ? routes : routes.map(formatPrefix).join(", ")}`,
    ...(dns.length > 0 ? ["with name servers"] : []),
    ...(killSwitch ? ["with kill switch"] : []),
  ];
  return [{ verdict: "ok", subject: "tunnel", text: parts.join(", ") }];
}
