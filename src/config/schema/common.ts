/**
 * Building blocks of the mode schemas. Each reads the JSON form and yields the parsed one: durations become
 * milliseconds, addresses host and port, so that nothing past the config reads text again.
 */

import { z } from "zod";
import {
  type HostPort,
  parseHostPort,
  parseUdpUpstream,
  parseUpstream,
  type UdpUpstream,
  type Upstream,
} from "../../base/address.ts";
import { LOG_LEVELS } from "../../base/log.ts";
import { serviceNameFault } from "../../core/service_name.ts";

/** Where a health endpoint listens. */
export type HealthAddress = Upstream;

/** A path of a file; relative ones are taken from the config file's folder. */
export const filePath = z.string().min(1).max(4096).meta({ type_name: "path" });

/** A length of time such as `250ms`, `30s`, `5m`, `1h` or `7d`; yields milliseconds. */
export function duration(bounds: { readonly min: string; readonly max: string }) {
  const min = parseDuration(bounds.min)!;
  const max = parseDuration(bounds.max)!;
  return z.string().transform((text, context): number => {
    const milliseconds = parseDuration(text);
    if (milliseconds === undefined) {
      return refuse(
        context,
        "not a duration: write a whole number and a unit, such as 250ms, 30s, 5m, 1h or 7d",
      );
    }
    if (milliseconds < min || milliseconds > max) {
      return refuse(context, `must be from ${bounds.min} to ${bounds.max}`);
    }
    return milliseconds;
  }).meta({ type_name: "duration" });
}

/** `host:port` to listen on; port 0 lets the system choose. */
export const listenAddress = z.string().transform((text, context): HostPort => readHostPort(text, context))
  .meta({ type_name: "host:port" });

/** `host:port` to connect to. */
export const dialAddress = z.string().transform((text, context): HostPort => {
  const address = readHostPort(text, context);
  return address.port === 0 ? refuse(context, "port 0 cannot be dialled") : address;
}).meta({ type_name: "host:port" });

/** `tcp://host:port`, `udp://host:port` or `unix:/path`. */
export const upstream = z.string().transform((text, context): Upstream | UdpUpstream => {
  try {
    const parsed = text.startsWith("udp:") ? parseUdpUpstream(text) : parseUpstream(text);
    return parsed.kind !== "unix" && parsed.port === 0 ? refuse(context, "port 0 cannot be dialled") : parsed;
  } catch {
    return refuse(
      context,
      "not an upstream: write tcp://host:port, udp://host:port or unix:/absolute/path",
    );
  }
}).meta({ type_name: "tcp://host:port, udp://host:port or unix:/path" });

/** `host:port` or `unix:/path`. */
export const healthAddress = z.string().transform((text, context): HealthAddress => {
  if (text.startsWith("unix:")) return readUnix(text, context);
  return { kind: "tcp", ...readHostPort(text, context) };
}).meta({ type_name: "host:port or unix:/path" });

/** `unix:/path` only. */
export const unixAddress = z.string().transform((text, context): HealthAddress => readUnix(text, context))
  .meta({ type_name: "unix:/path" });

/** A service's name. */
export const serviceName = z.string().superRefine((name, context) => {
  const fault = serviceNameFault(name);
  if (fault !== undefined) refuse(context, fault);
}).meta({ type_name: "service name" });

/** The name of a relay or controller: a DNS label. */
export const tlsName = z.string().regex(
  /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/,
  "not a server's name: lower-case letters, digits and inner dashes, as given when its identity was made",
);

/** The identity of a node: its identity file, or the files of an SVID that something else keeps fresh. */
export const nodeIdentity = z.union([
  filePath,
  z.strictObject({
    certificate: filePath.describe("PEM file with the SVID and its chain."),
    key: filePath.describe("PEM file, mode 0600, with its private key."),
    network: filePath.describe("File that says what to trust, made by `ginnel identity trust`."),
  }),
], { error: "expected the path of an identity file, or { certificate, key, network }" });

/** Where a node's identity comes from. */
export type NodeIdentity = z.output<typeof nodeIdentity>;

/** Makes the paths of a node's identity absolute. */
export function resolveIdentity(identity: NodeIdentity, resolve: (path: string) => string): NodeIdentity {
  if (typeof identity === "string") return resolve(identity);
  const { certificate, key, network } = identity;
  return { certificate: resolve(certificate), key: resolve(key), network: resolve(network) };
}

const relay = z.strictObject({
  name: tlsName.describe("The relay's name, as in its certificate."),
  address: dialAddress.describe("Where the relay listens: UDP for QUIC, TCP for TLS."),
});

/** The relays of a node. */
export const networkRelays = z.array(relay).max(16).superRefine(unique("name")).prefault([]).describe(
  "The relays to use: a connector stays connected to each, an agent turns to the next when one fails. " +
    "None: those the network names, as the identity file and the controller say.",
);

/** How a node reaches its relays. */
export const carrier = z.enum(["auto", "quic", "tls"]).default("auto")
  .describe(
    "What carries flows to a relay: `quic`, `tls` (over TCP), or `auto`: TLS while dialling it is fast, else QUIC. " +
      "Control and sessions use QUIC in any case.",
  );

/** Logging settings. */
export const log = z.strictObject({
  level: z.enum(LOG_LEVELS).default("info").describe("Lines below this level are not written."),
}).prefault({}).describe("Log lines are JSON on standard output.");

/** A refinement that no two entries share the value of `key`. */
export function unique<K extends string>(key: K) {
  return (entries: readonly { readonly [P in K]: unknown }[], context: z.RefinementCtx): void => {
    const seen = new Map<unknown, number>();
    entries.forEach((entry, index) => {
      const value = typeof entry[key] === "object" ? JSON.stringify(entry[key]) : entry[key];
      const first = seen.get(value);
      if (first === undefined) seen.set(value, index);
      else {
        context.addIssue({
          code: "custom",
          path: [index, key],
          message: `given twice: entry [${first}] has the same ${key}`,
        });
      }
    });
  };
}

/** Milliseconds of a duration text, or undefined. */
function parseDuration(text: string): number | undefined {
  const match = /^([0-9]{1,9})(ms|s|m|h|d)$/.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
}

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Adds an issue to the field at hand; usable where a transform must return. */
function refuse(context: z.RefinementCtx, message: string): never {
  context.addIssue({ code: "custom", message });
  return z.NEVER;
}

function readHostPort(text: string, context: z.RefinementCtx): HostPort {
  try {
    return parseHostPort(text);
  } catch {
    return refuse(context, "not an address: write host:port or [ipv6]:port");
  }
}

function readUnix(text: string, context: z.RefinementCtx): HealthAddress {
  if (!text.startsWith("unix:/")) return refuse(context, "not a unix socket: write unix:/absolute/path");
  return { kind: "unix", path: text.slice("unix:".length) };
}
