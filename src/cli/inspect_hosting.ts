/** What `ginnel check` says of the services a connector lets the network's administrators define. */

import { parseIp, prefixContains } from "../base/ip.ts";
import type { ConnectorConfig } from "../config/schema/connector.ts";
import { type AllowedDestination, formatDestination } from "../core/service/destinations.ts";
import type { Finding } from "./report.ts";

/** Where clouds hand out a machine's own credentials to whoever asks from it. */
const METADATA = ["169.254.169.254", "fd00:ec2::254"].map((text) => parseIp(text)!);

/** Says where `host.v1` configs may lead here, and warns of more than was probably meant. */
export function inspectHosting({ hosting }: ConnectorConfig): Finding[] {
  const subject = "hosting";
  if (hosting === undefined) {
    return [{ verdict: "ok", subject, text: "off: only the services of this config are offered" }];
  }
  const { allow } = hosting;
  const text = `administrators may offer ${allow.map(formatDestination).join(", ")}`;
  const tooWide = allow.filter(reachesMetadata).map(formatDestination);
  if (tooWide.length === 0) return [{ verdict: "ok", subject, text }];
  return [{
    verdict: "warn",
    subject,
    text: `${text}; ${tooWide.join(", ")} includes cloud metadata with this machine's credentials`,
    hint: "Allow narrower prefixes",
  }];
}

function reachesMetadata({ place, ports }: AllowedDestination): boolean {
  return place.kind === "prefix" && ports.low <= 80 && 80 <= ports.high &&
    METADATA.some((address) => prefixContains(place.prefix, address));
}
