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
  cost: z.int().min(0).max(65_535).exactOptional().describe(
    "What a flow costs here: relays prefer connectors where it costs less.",
  ),
  precedence: z.enum(["default", "required", "failed"]).exactOptional().describe(
    "Relays use `failed` only without any `default`, and those only without any `required`.",
  ),
  maxConnections: z.int().min(1).max(65_535).exactOptional().describe("Flows at once."),
  connectTimeoutSeconds: connectTimeoutSeconds.exactOptional().describe(
    "Seconds that connecting to the upstream may take.",
  ),
}).readonly();

/** The data of a `host.v1` config. */
export const hostSchema = z.strictObject({
  protocol: protocol.exactOptional().describe("What the upstream speaks."),
  forwardProtocol: z.literal(true).exactOptional().describe("The protocol the caller asks for."),
  allowedProtocols: z.array(protocol).min(1).max(2).readonly().exactOptional().describe(
    "Which ones, with `forwardProtocol`.",
  ),
  address: address.exactOptional().describe("The upstream's name or address."),
  forwardAddress: z.literal(true).exactOptional().describe("The name or address the caller asks for."),
  allowedAddresses: z.array(addressPatternSchema).min(1).max(256).readonly().exactOptional().describe(
    "Which ones, with `forwardAddress`: names, `*.` wildcards, addresses and prefixes.",
  ),
  port: z.int().min(1).max(65_535).exactOptional().describe("The upstream's port."),
  forwardPort: z.literal(true).exactOptional().describe("The port the caller asks for."),
  allowedPortRanges: z.array(portRangeSchema).min(1).max(256).readonly().exactOptional().describe(
    "Which ones, with `forwardPort`.",
  ),
  portChecks: z.array(portCheckSchema).max(16).readonly().exactOptional().describe(
    "Whether the upstream accepts connections.",
  ),
  httpChecks: z.array(httpCheckSchema).max(16).readonly().exactOptional().describe(
    "Whether the upstream answers as it should.",
  ),
  listenOptions: listenOptions.exactOptional().describe("How relays choose this connector, and its limits."),
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
