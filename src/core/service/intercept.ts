/** `intercept.v1`: the names, addresses and ports under which agents make a service appear, in OpenZiti's shape. */

import { z } from "zod";

const port = z.int().min(1).max(65_535);

/** Ports from `low` to `high`, both included. */
export const portRangeSchema = z.strictObject({ low: port, high: port })
  .refine(({ low, high }) => low <= high, { path: ["high"], message: "is below low" });

/** The data of an `intercept.v1` config. */
export const interceptSchema = z.strictObject({
  /** Host names, `*.` wildcards, IP addresses and prefixes. */
  addresses: z.array(z.string().min(1).max(255)).min(1).max(256).readonly(),
  portRanges: z.array(portRangeSchema).min(1).max(256).readonly(),
  protocols: z.array(z.enum(["tcp", "udp"])).min(1).max(2).readonly(),
});

/** See {@linkcode portRangeSchema}. */
export type PortRange = Readonly<z.output<typeof portRangeSchema>>;

/** See {@linkcode interceptSchema}. */
export type Intercept = Readonly<z.output<typeof interceptSchema>>;
