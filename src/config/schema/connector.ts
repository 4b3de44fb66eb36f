/** Config of mode `connector`. */

import { z } from "zod";
import {
  carrier,
  duration,
  log,
  networkRelays,
  nodeIdentity,
  resolveIdentity,
  serviceName,
  unique,
  unixAddress,
  upstream,
} from "./common.ts";

const healthCheck = z.strictObject({
  kind: z.enum(["tcp", "http"]).describe(
    "`tcp`: the upstream accepts a connection; `http`: it answers 2xx or 3xx.",
  ),
  path: z.string().regex(/^\/[\x21-\x7e]*$/, "not a path: it starts with / and has no spaces").max(2048)
    .exactOptional()
    .describe("What to request when `kind` is `http`; `/` when absent."),
  interval: duration({ min: "1s", max: "1h" }).prefault("10s").describe("Time between checks."),
  timeout: duration({ min: "100ms", max: "5m" }).prefault("5s").describe("How long one check may take."),
}).superRefine((check, context) => {
  if (check.kind === "tcp" && check.path !== undefined) {
    context.addIssue({ code: "custom", path: ["path"], message: "only for kind http" });
  }
});

const service = z.strictObject({
  name: serviceName.describe("Name under which the service is offered."),
  upstream: upstream.describe("Where flows are piped to."),
  healthCheck: healthCheck.exactOptional().describe("While it fails, the service takes no new flows."),
  maxFlows: z.int().min(1).max(1_000_000).default(1_024).describe("Flows open to this upstream at once."),
});

/** Schema of the connector's config file. */
export const connectorSchema = z.strictObject({
  mode: z.literal("connector"),
  identity: nodeIdentity.describe(
    "Identity file of the connector, made by `ginnel enroll` or `ginnel ca issue connector NAME`, or an SVID's files.",
  ),
  relays: networkRelays,
  services: z.array(service).min(1, "offer at least one service").max(256).superRefine(unique("name"))
    .describe("The services to offer."),
  carrier,
  health: unixAddress.nullable().prefault(null)
    .describe("Where `/health` and `/ready` are served: a unix socket, since a connector opens no port."),
  log,
});

/** The connector's config, all defaults applied. */
export type ConnectorConfig = z.output<typeof connectorSchema>;

/** Makes every path of the config absolute. */
export function resolveConnectorPaths(
  config: ConnectorConfig,
  resolve: (path: string) => string,
): ConnectorConfig {
  return { ...config, identity: resolveIdentity(config.identity, resolve) };
}
