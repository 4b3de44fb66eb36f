/** `host.v1`: where a connector carries a service's flows, in OpenZiti's shape. */

import { z } from "zod";
import { formatIp, parseIp } from "../../base/ip.ts";
import { addressPatternSchema, canonicalHost } from "./address_pattern.ts";
import { httpCheckSchema, portCheckSchema } from "./host_checks.ts";
import { connectTimeoutSeconds, portRangeSchema } from "./intercept.ts";

const protocol = z.enum(["tcp", "udp"]);

const address = z.string().min(1).max(255).overwrite((text) => {
  const ip = parseIp(text);
  return ip === undefined ? canonicalHost(text) ?? text : formatIp(ip);
}).refine((text) => parseIp(text) !== undefined || canonicalHost(text) !== undefined, {
  message: "not a host name or an IP address",
});

const listenOptions = z.strictObject({
  /** What a flow costs here, against other connectors of the service. */
  cost: z.int().min(0).max(65_535).exactOptional(),
  precedence: z.enum(["default", "required", "failed"]).exactOptional(),
  /** Flows at once. */
  maxConnections: z.int().min(1).max(65_535).exactOptional(),
  connectTimeoutSeconds: connectTimeoutSeconds.exactOptional(),
}).readonly();

/** The data of a `host.v1` config. */
export const hostSchema = z.strictObject({
  protocol: protocol.exactOptional(),
  /** The caller's protocol, one of `allowedProtocols`. */
  forwardProtocol: z.literal(true).exactOptional(),
  allowedProtocols: z.array(protocol).min(1).max(2).readonly().exactOptional(),
  address: address.exactOptional(),
  /** The name or address the caller asked for, one of `allowedAddresses`. */
  forwardAddress: z.literal(true).exactOptional(),
  allowedAddresses: z.array(addressPatternSchema).min(1).max(256).readonly().exactOptional(),
  port: z.int().min(1).max(65_535).exactOptional(),
  /** The port the caller asked for, one of `allowedPortRanges`. */
  forwardPort: z.literal(true).exactOptional(),
  allowedPortRanges: z.array(portRangeSchema).min(1).max(256).readonly().exactOptional(),
  portChecks: z.array(portCheckSchema).max(16).readonly().exactOptional(),
  httpChecks: z.array(httpCheckSchema).max(16).readonly().exactOptional(),
  listenOptions: listenOptions.exactOptional(),
}).superRefine((host, context) => {
  for (const [fixed, forward, allowed] of PAIRS) {
    const refuse = (field: string, message: string) =>
      context.addIssue({ code: "custom", path: [field], message });
    if (host[fixed] !== undefined && host[forward] !== undefined) {
      refuse(forward, `contradicts ${fixed}: remove one of them`);
    } else if (host[fixed] === undefined && host[forward] === undefined) {
      refuse(fixed, `give ${fixed}, or ${forward} with ${allowed}`);
    }
    if (host[forward] !== undefined && host[allowed] === undefined) {
      refuse(allowed, `${forward} needs it: nothing is forwarded that is not allowed`);
    } else if (host[forward] === undefined && host[allowed] !== undefined) {
      refuse(allowed, `means something only with ${forward}`);
    }
  }
});

const PAIRS = [
  ["protocol", "forwardProtocol", "allowedProtocols"],
  ["address", "forwardAddress", "allowedAddresses"],
  ["port", "forwardPort", "allowedPortRanges"],
] as const;

/** See {@linkcode hostSchema}. */
export type Host = Readonly<z.output<typeof hostSchema>>;

/** Reads a config's data; undefined when it is not understood, as that of a newer version. */
export function readHost(data: unknown): Host | undefined {
  return hostSchema.safeParse(data).data;
}
