/** `intercept.v1`: the names, addresses and ports under which agents make a service appear, in OpenZiti's shape. */

import { z } from "zod";
import { type IpPrefix, parsePrefix, prefixContains } from "../../base/ip.ts";
import { addressPatternSchema, readAddressPattern } from "./address_pattern.ts";

const port = z.int().min(1).max(65_535);

/** Ports from `low` to `high`, both included. */
export const portRangeSchema = z.strictObject({
  low: port.describe("The first port."),
  high: port.describe("The last port."),
})
  .refine(({ low, high }) => low <= high, { path: ["high"], message: "is below low" });

/** Most seconds an end may take to connect. */
const MAX_CONNECT_SECONDS = 300;

/** Seconds that connecting may take. */
export const connectTimeoutSeconds = z.int().min(1).max(MAX_CONNECT_SECONDS);

const address = addressPatternSchema.refine((text) => !isUnroutable(text), {
  message: "cannot be intercepted: a machine never routes it to a network, or it covers every address",
});

/** The data of an `intercept.v1` config. */
export const interceptSchema = z.strictObject({
  addresses: z.array(address).min(1).max(256).readonly().describe(
    "Host names, `*.` wildcards, IP addresses and prefixes.",
  ),
  portRanges: z.array(portRangeSchema).min(1).max(256).readonly().describe("Its ports."),
  protocols: z.array(z.enum(["tcp", "udp"])).min(1).max(2).readonly().describe("What it speaks."),
  dialOptions: z.strictObject({
    connectTimeoutSeconds: connectTimeoutSeconds.exactOptional().describe(
      "Seconds that opening a flow may take.",
    ),
  }).readonly().exactOptional().describe("How agents open flows."),
});

/** See {@linkcode portRangeSchema}. */
export type PortRange = Readonly<z.output<typeof portRangeSchema>>;

/** See {@linkcode interceptSchema}. */
export type Intercept = Readonly<z.output<typeof interceptSchema>>;

/** Reads a config's data; undefined when it is not understood, as that of a newer version. */
export function readIntercept(data: unknown): Intercept | undefined {
  return interceptSchema.safeParse(data).data;
}

const UNROUTABLE: readonly IpPrefix[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/3",
  "::/127",
  "fe80::/10",
  "ff00::/8",
].map((text) => parsePrefix(text)!);

function isUnroutable(text: string): boolean {
  const pattern = readAddressPattern(text);
  if (pattern?.kind !== "prefix") return false;
  const { version, first, length } = pattern.prefix;
  return length === 0 ||
    UNROUTABLE.some((range) => range.length <= length && prefixContains(range, { version, value: first }));
}
