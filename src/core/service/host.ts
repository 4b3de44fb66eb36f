/** `host.v1`: where a connector carries a service's flows, in OpenZiti's shape. */

import { z } from "zod";

const port = z.int().min(1).max(65_535);

/** The data of a `host.v1` config. */
export const hostSchema = z.strictObject({
  protocol: z.enum(["tcp", "udp"]).exactOptional(),
  address: z.string().min(1).max(255).exactOptional(),
  port: port.exactOptional(),
});

/** See {@linkcode hostSchema}. */
export type Host = Readonly<z.output<typeof hostSchema>>;
