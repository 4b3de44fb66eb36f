/** Config of mode `connector`. */

import { z } from "zod";
import { type AllowedDestination, parseDestination } from "../../core/service/destinations.ts";
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
}).superRefine(({ upstream, healthCheck }, context) => {
  if (upstream.kind !== "udp" || healthCheck === undefined) return;
  context.addIssue({ code: "custom", path: ["healthCheck"], message: "a udp upstream cannot be checked" });
});

const destination = z.string().max(280).transform((text, context): AllowedDestination => {
  const parsed = parseDestination(text);
  if (parsed !== undefined) return parsed;
  context.addIssue({
    code: "custom",
    message:
      "not a destination: write 10.0.0.0/8, db.example, *.example or [::1], with :PORT or :LOW-HIGH where only those ports are meant",
  });
  return z.NEVER;
}).meta({ type_name: "destination" });

const hosting = z.strictObject({
  allow: z.array(destination).min(1, "name at least one destination").max(256).describe(
    "Addresses, prefixes, names and `*.` wildcards, each with `:PORT` or `:LOW-HIGH` if need be, to which the network's `host.v1` configs may lead.",
  ),
}).describe(
  "Services that the network's administrators define (`host.v1`) are offered here as policy lets this connector Bind them.",
);

/** Schema of the connector's config file. */
export const connectorSchema = z.strictObject({
  mode: z.literal("connector"),
  identity: nodeIdentity.describe(
    "Identity file of the connector, made by `ginnel enroll` or `ginnel ca issue connector NAME`, or an SVID's files.",
  ),
  relays: networkRelays,
  services: z.array(service).max(256).superRefine(unique("name")).prefault([])
    .describe("The services to offer, with their upstreams; they come before `hosting`."),
  hosting: hosting.exactOptional(),
  carrier,
  control: unixAddress.nullable().exactOptional().describe(
    "Unix socket at which `ginnel status` asks; one in the state directory when absent, `null`: none.",
  ),
  health: unixAddress.nullable().prefault(null)
    .describe("Where `/health` and `/ready` are served: a unix socket, since a connector opens no port."),
  log,
}).superRefine(({ services, hosting }, context) => {
  if (services.length > 0 || hosting !== undefined) return;
  context.addIssue({
    code: "custom",
    path: ["services"],
    message: "offer at least one service, or give hosting",
  });
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
