/**
 * What `ginnel doctor --config` looks at on the network: the way to every relay, controller and upstream, and by the
 * controllers' answers the clock.
 */

import { formatHostPort, type UdpUpstream, type Upstream } from "../base/address.ts";
import { errorMessage } from "../base/errors.ts";
import type { Identity } from "../identity/identity_file.ts";
import { CLOCK_TOLERANCE_SECONDS } from "../identity/jws.ts";
import { probeController } from "../modes/doctor/probe_controller.ts";
import { probeRelay, probeUpstream } from "../modes/doctor/probe_network.ts";
import { listedRelays } from "../modes/shared/listed_relays.ts";
import type { RelayAddress } from "../modes/shared/relay_client.ts";
import type { Inspection } from "./inspect_config.ts";
import type { Finding } from "./report.ts";

/** Looks at the ways out of a node; a relay has none. */
export async function inspectNetwork({ config, identity }: Inspection): Promise<Finding[]> {
  if (config === undefined || (config.mode !== "agent" && config.mode !== "connector")) return [];
  const relays = identity === undefined
    ? []
    : relaysOf(config.relays, identity).map((relay) => tryRelay(relay, config.carrier, identity));
  const controllers = identity === undefined ? [] : [tryControllers(identity)];
  const upstreams = config.mode === "connector"
    ? config.services.map(({ name, upstream }) => tryUpstream(name, upstream))
    : [];
  return (await Promise.all([...relays, ...controllers, ...upstreams])).flat();
}

/** Judges by how many milliseconds this clock is ahead of a controller's: proofs are worthless when it is too far off. */
export function judgeClock(ahead: number, controller: string): Finding {
  const subject = "clock";
  const seconds = Math.round(Math.abs(ahead) / 1_000);
  const text = `${seconds} s ${ahead < 0 ? "behind" : "ahead of"} ${controller}'s`;
  const hint = "Set the clock: timedatectl set-ntp true";
  if (seconds > CLOCK_TOLERANCE_SECONDS) return { verdict: "fail", subject, text, hint };
  if (seconds > CLOCK_TOLERANCE_SECONDS / 3) return { verdict: "warn", subject, text, hint };
  return { verdict: "ok", subject, text: `as ${controller}'s` };
}

/** Those of the config, else those that the network lists. */
function relaysOf(configured: readonly RelayAddress[], identity: Identity): readonly RelayAddress[] {
  return configured.length > 0 ? configured : listedRelays(identity);
}

/** Tries every controller; one that works is enough, and without any the relays still know what they knew last. */
async function tryControllers(identity: Identity): Promise<Finding[]> {
  const controllers = identity.network?.controllers ?? [];
  const tried = await Promise.all(controllers.map(async (controller): Promise<Finding[]> => {
    const subject = `controller ${controller.name}`;
    try {
      const { status, took, ahead } = await probeController(controller, identity);
      const text = `${controller.url} answers ${status}, ${took.toFixed(0)} ms`;
      const clock = ahead === undefined ? [] : [judgeClock(ahead, controller.name)];
      return [{ verdict: "ok", subject, text }, ...clock];
    } catch (error) {
      const hint =
        "Services work without it, but no right changes and no certificate is renewed: let it be reached";
      return [{ verdict: "warn", subject, text: `${controller.url}: ${errorMessage(error)}`, hint }];
    }
  }));
  return tried.flat();
}

/** Tries the carriers that the config allows; with `auto`, one that works is enough. */
async function tryRelay(
  relay: RelayAddress,
  choice: "auto" | Carrier,
  identity: Identity,
): Promise<Finding[]> {
  const carriers: readonly Carrier[] = choice === "auto" ? ["quic", "tls"] : [choice];
  const findings = await Promise.all(carriers.map((carrier) => tryCarrier(relay, carrier, identity)));
  const works = findings.some(({ verdict }) => verdict === "ok");
  return findings.map((finding) =>
    works && finding.verdict === "fail" ? { ...finding, verdict: "warn" } : finding
  );
}

type Carrier = "quic" | "tls";

async function tryCarrier(relay: RelayAddress, carrier: Carrier, identity: Identity): Promise<Finding> {
  const address = formatHostPort(relay.address);
  const subject = `relay ${relay.name}`;
  const way = carrier === "quic" ? `QUIC to ${address}/udp` : `TLS to ${address}/tcp`;
  try {
    const { took, isAdmitted } = await probeRelay(relay, { carrier, identity });
    if (isAdmitted) return { verdict: "ok", subject, text: `${way} works, ${took.toFixed(0)} ms` };
    const hint =
      "Check the clock; else the identity may be revoked or disabled: ask an administrator, enrol again";
    return { verdict: "fail", subject, text: `${way}: the relay refuses this identity`, hint };
  } catch (error) {
    const port = `${carrier === "quic" ? "UDP" : "TCP"} ${relay.address.port}`;
    const hint = `Check that the relay runs, that its name is right, and that ${port} is let through`;
    return { verdict: "fail", subject, text: `${way}: ${errorMessage(error)}`, hint };
  }
}

async function tryUpstream(service: string, upstream: Upstream | UdpUpstream): Promise<Finding[]> {
  const subject = `service ${service}`;
  if (upstream.kind === "udp") {
    return [{ verdict: "ok", subject, text: "upstream takes datagrams: not tried" }];
  }
  try {
    await probeUpstream(upstream);
    return [{ verdict: "ok", subject, text: "upstream accepts connections" }];
  } catch (error) {
    const hint = "Start the service, or correct its upstream";
    return [{ verdict: "fail", subject, text: errorMessage(error), hint }];
  }
}
