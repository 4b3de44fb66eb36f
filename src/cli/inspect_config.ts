/**
 * Looks at a config file and at everything it names, without starting or changing anything.
 */

import { dirname } from "node:path";
import { errorMessage, GinnelError } from "../base/errors.ts";
import { type Config, loadConfig } from "../config/parse_config.ts";
import { loadPolicy } from "../config/policy_file.ts";
import type { AgentConfig } from "../config/schema/agent.ts";
import type { ConnectorConfig } from "../config/schema/connector.ts";
import { type RelayConfig, relaySource } from "../config/schema/relay.ts";
import { compilePolicy, type PolicyWarning } from "../core/policy/snapshot.ts";
import { loadAuthority } from "../identity/authority.ts";
import { type Identity, loadIdentity } from "../identity/identity_file.ts";
import { controllerSteps } from "./inspect_controller.ts";
import { inspectHosting } from "./inspect_hosting.ts";
import { agentTunnelSteps, type InspectionStep, relayTunnelSteps } from "./inspect_tunnel.ts";
import type { Finding } from "./report.ts";

/** What was found, and what of it can be used further. */
export interface Inspection {
  readonly findings: readonly Finding[];
  readonly config?: Config;
  readonly identity?: Identity;
}

/** Milliseconds before its expiry from which an identity is reported that nothing renews. */
const EXPIRY_NOTICE = 14 * 86_400_000;

/** The same for one that renews itself, which it has long done by then. */
const RENEWAL_NOTICE = 86_400_000;

/** The same for a user's, which lives for hours. */
const LOGIN_NOTICE = 3_600_000;

/** Roles of a policy that select nothing: more than these are counted only. */
const MAX_WARNINGS = 10;

/** Inspects a config file; `now` is in milliseconds since the epoch. */
export async function inspectConfig(file: string, now: number): Promise<Inspection> {
  const findings: Finding[] = [];
  const config = await attempt("config", findings, () => loadConfig(file));
  if (config === undefined) return { findings };
  findings.push({ verdict: "ok", subject: "config", text: `${file}, mode ${config.mode}` });
  const path = identityPathOf(config);
  const identity = path === undefined
    ? undefined
    : await attempt("identity", findings, () => loadIdentity(path, { now })) ?? await expiredIdentity(path);
  if (identity !== undefined && identity.notAfter > now) {
    findings.push(inspectIdentity(identity, config, now));
  }
  if (config.mode === "controller") await takeSteps(controllerSteps(config, now), findings);
  if (config.mode === "relay") await inspectRelay(file, { config, identity, findings });
  if ((config.mode === "agent" || config.mode === "connector") && identity !== undefined) {
    findings.push(...inspectRelays(config, identity));
  }
  if (config.mode === "connector") findings.push(...inspectHosting(config));
  if (config.mode === "agent" && config.tunnel !== undefined) {
    await takeSteps(agentTunnelSteps(config.tunnel), findings);
  }
  return identity === undefined ? { findings, config } : { findings, config, identity };
}

/** One that has expired still tells whom to ask; perhaps it is the clock that is wrong. */
async function expiredIdentity(path: string): Promise<Identity | undefined> {
  try {
    return await loadIdentity(path, { evenExpired: true });
  } catch {
    // What is wrong with it has been found already.
    return undefined;
  }
}

/** Runs one step; a failure becomes a finding. */
async function attempt<T>(
  subject: string,
  findings: Finding[],
  step: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await step();
  } catch (error) {
    const hint = error instanceof GinnelError ? error.hint : undefined;
    for (const text of errorMessage(error).split("\n")) {
      findings.push({ verdict: "fail", subject, text, ...(hint !== undefined && { hint }) });
    }
    return undefined;
  }
}

async function takeSteps(steps: readonly InspectionStep[], findings: Finding[]): Promise<void> {
  for (const { subject, look } of steps) findings.push(...await attempt(subject, findings, look) ?? []);
}

function inspectIdentity(identity: Identity, config: Config, now: number): Finding {
  const { uri, kind } = identity.id;
  const until = new Date(identity.notAfter).toISOString().slice(0, 10);
  const text = `${uri}, valid until ${until}`;
  const isFitting = kind === config.mode || (config.mode === "agent" && kind === "user");
  if (!isFitting) {
    const hint = `Issue one with: ginnel ca issue ${config.mode} NAME`;
    return {
      verdict: "fail",
      subject: "identity",
      text: `${uri} is no identity of mode ${config.mode}`,
      hint,
    };
  }
  const { notice, hint } = expiryOf(identity);
  if (identity.notAfter - now < notice) return { verdict: "warn", subject: "identity", text, hint };
  return { verdict: "ok", subject: "identity", text };
}

/** From when on the end of a certificate is reported, and what to do about it. */
function expiryOf({ id, network }: Identity): { readonly notice: number; readonly hint: string } {
  if (id.kind === "user") return { notice: LOGIN_NOTICE, hint: "Log in again: ginnel login" };
  if ((network?.controllers.length ?? 0) > 0) {
    const hint =
      "It renews itself while its node runs and reaches a relay or controller: look at the node's log";
    return { notice: RENEWAL_NOTICE, hint };
  }
  return { notice: EXPIRY_NOTICE, hint: `Issue a new one with: ginnel ca issue ${id.kind} NAME` };
}

/** The identity file of a config; a controller makes its own, and an SVID's files come and go by themselves. */
function identityPathOf(config: Config): string | undefined {
  if (config.mode === "controller") return undefined;
  return typeof config.identity === "string" ? config.identity : undefined;
}

async function inspectRelay(
  file: string,
  { config, identity, findings }: {
    readonly config: RelayConfig;
    readonly identity: Identity | undefined;
    readonly findings: Finding[];
  },
): Promise<void> {
  const source = relaySource(config);
  if (source.kind === "embedded") await takeSteps(controllerSteps(source.controller, Date.now()), findings);
  if (source.kind === "remote" && identity !== undefined) {
    findings.push(inspectControllers(source.controllers ?? identity.network?.controllers ?? []));
  }
  const document = source.kind === "files"
    ? await attempt("policy", findings, () => loadPolicy(source.policy))
    : undefined;
  if (document !== undefined) {
    const { services, servicePolicies } = document;
    const text = `${services.length} services, ${servicePolicies.length} service policies`;
    findings.push({ verdict: "ok", subject: "policy", text });
    const domain = identity?.id.trustDomain;
    const { warnings } = compilePolicy(document, domain === undefined ? {} : { trustDomain: domain });
    // Identities need no declaration; a policy that declares some is taken to declare all it names.
    const areUndeclaredFine = document.identities.length === 0;
    findings.push(...describeWarnings(
      warnings.filter(({ reason }) => !(areUndeclaredFine && reason === "undeclared_identity")),
    ));
  }
  const authority = source.kind === "files"
    ? await attempt("authority", findings, () => loadAuthority(source.authority.key))
    : undefined;
  if (authority !== undefined) {
    const isKnown = identity?.trust.authorities.some(({ x, y }) =>
      x === authority.publicJwk.x && y === authority.publicJwk.y
    );
    findings.push(
      isKnown === false
        ? {
          verdict: "fail",
          subject: "authority",
          text: "the identity does not trust this key: nodes would refuse every view it signs",
          hint: "Use authority.key of the CA that issued the identity",
        }
        : { verdict: "ok", subject: "authority", text: `key ${authority.kid}` },
    );
  }
  const audit = config.audit.file;
  if (audit !== undefined) {
    await attempt("audit", findings, async () => {
      if (!(await Deno.stat(dirname(audit))).isDirectory) throw new Error(`${dirname(audit)} is no folder`);
    });
  }
  if (config.tunnel !== undefined && source.kind === "files") {
    const trustDomain = identity?.id.trustDomain;
    await takeSteps(
      relayTunnelSteps(config.tunnel, { file, trustDomain, policy: document }),
      findings,
    );
  }
}

/** A node without a list of relays of its own follows that of its identity file. */
function inspectRelays(config: AgentConfig | ConnectorConfig, { network }: Identity): Finding[] {
  const isForeign = config.mode === "agent" && config.tunnel?.proxy !== undefined;
  if (config.relays.length > 0 || isForeign) return [];
  const subject = "relays";
  const relays = network?.relays ?? [];
  const text = relays.map(({ name, address }) => `${name} at ${address}`).join(", ");
  if (relays.length > 0) return [{ verdict: "ok", subject, text }];
  const hint = network === undefined
    ? "Name them as relays in the config, or enrol with a token of the network's controller"
    : "Give relays an address at the controller: nodes hear of it once one of them is known";
  return [{ verdict: "fail", subject, text: "neither the config nor the identity file names one", hint }];
}

function inspectControllers(
  controllers: readonly { readonly name: string; readonly url: string }[],
): Finding {
  const subject = "controllers";
  if (controllers.length === 0) {
    const hint = "Enrol the relay with a token of its controller, or name them as controllers in the config";
    return { verdict: "fail", subject, text: "neither the config nor the identity file names one", hint };
  }
  return { verdict: "ok", subject, text: controllers.map(({ name, url }) => `${name} at ${url}`).join(", ") };
}

function describeWarnings(warnings: readonly PolicyWarning[]): Finding[] {
  const findings = warnings.slice(0, MAX_WARNINGS).map(({ policy, role, reason }): Finding => ({
    verdict: "warn",
    subject: "policy",
    text: `${policy}: role ${role} selects nothing (${reason.replaceAll("_", " ")})`,
    hint: "Declare it, or correct its spelling",
  }));
  const more = warnings.length - findings.length;
  if (more > 0) {
    const text = `${more} more roles select nothing`;
    findings.push({ verdict: "warn", subject: "policy", text, hint: "Correct those above first" });
  }
  return findings;
}
