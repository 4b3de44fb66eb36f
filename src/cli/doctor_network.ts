/**
 * What `ginnel doctor --config` looks at on the network: the way to every relay and to every upstream.
 */

import { formatHostPort, type UdpUpstream, type Upstream } from "../base/address.ts";
import { errorMessage } from "../base/errors.ts";
import type { Identity } from "../identity/identity_file.ts";
import { probeRelay, probeUpstream } from "../modes/doctor/probe_network.ts";
import type { RelayAddress } from "../modes/shared/relay_client.ts";
import type { Inspection } from "./inspect_config.ts";
import type { Finding } from "./report.ts";

/** Looks at the ways out of a node; a relay has none. */
export async function inspectNetwork({ config, identity }: Inspection): Promise<Finding[]> {
  if (config === undefined || (config.mode !== "agent" && config.mode !== "connector")) return [];
  const relays = identity === undefined
    ? []
    : config.relays.map((relay) => tryRelay(relay, config.carrier, identity));
  const upstreams = config.mode === "connector"
    ? config.services.map(({ name, upstream }) => tryUpstream(name, upstream))
    : [];
  return (await Promise.all([...relays, ...upstreams])).flat();
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
    const took = await probeRelay(relay, { carrier, identity });
    return { verdict: "ok", subject, text: `${way} works, ${took.toFixed(0)} ms` };
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
