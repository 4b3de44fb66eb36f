/** Config of mode `relay`. */

import { z } from "zod";
import { DEFAULT_RELAY_LIMITS, type RelayLimits } from "../../core/limits.ts";
import { duration, filePath, healthAddress, listenAddress, log } from "./common.ts";
import { relayTunnelSchema } from "./tunnel.ts";

const limits = z.strictObject({
  maxConnections: count("maxConnections", 1_000_000).describe("Connections, QUIC and TLS together."),
  maxUnauthenticatedConnections: count("maxUnauthenticatedConnections", 100_000)
    .describe("Connections that have not proved who they are."),
  unauthenticatedTimeout: duration({ min: "100ms", max: "60s" }).prefault("5s")
    .describe("How long a connection may take to prove who it is."),
  maxConnectionsPerIdentity: count("maxConnectionsPerIdentity", 1_000_000)
    .describe("Connections of one identity; the TLS carrier needs one for each flow."),
  maxFlowsPerIdentity: count("maxFlowsPerIdentity", 1_000_000).describe(
    "Flows that one identity may have open.",
  ),
  maxServicesPerConnector: count("maxServicesPerConnector", 10_000)
    .describe("Services that one connector may offer."),
  maxConnectorsPerService: count("maxConnectorsPerService", 10_000)
    .describe("Connectors that may offer one service."),
  maxHeaderBytes: z.int().min(1_024).max(65_536).default(DEFAULT_RELAY_LIMITS.maxHeaderBytes)
    .describe("Bytes of one request's header section."),
  idleTimeout: duration({ min: "15s", max: "1h" }).prefault("300s")
    .describe("A connection silent for this long is closed; nodes send a keepalive every 10 s."),
}).prefault({}).describe("Bounds on what peers can make the relay hold.");

/** Schema of the relay's config file. */
export const relaySchema = z.strictObject({
  mode: z.literal("relay"),
  identity: filePath.describe("Identity file of the relay, made by `ginnel ca issue relay NAME`."),
  listen: z.strictObject({
    quic: listenAddress.prefault("0.0.0.0:4433").describe("UDP address for QUIC (HTTP/3)."),
    tls: listenAddress.nullable().prefault("0.0.0.0:4433")
      .describe("TCP address for the TLS carrier; `null` turns it off."),
  }).prefault({}).describe("Where the relay listens."),
  policy: z.array(filePath).min(1, "name at least one policy file").max(256)
    .describe("Policy files (YAML or JSON), read as one document and again when they change."),
  authority: z.strictObject({
    key: filePath.describe("Key that signs the views, `authority.key` of `ginnel ca init`."),
    viewTtl: duration({ min: "1m", max: "7d" }).prefault("1h")
      .describe("How long nodes may go on with a view when the relay is away."),
  }).describe("The authority embedded in this relay."),
  health: healthAddress.nullable().prefault("0.0.0.0:8080")
    .describe("Where `/health` and `/ready` are served; `null` turns them off."),
  limits,
  log,
  audit: z.strictObject({
    file: filePath.exactOptional().describe(
      "File for the audit lines, made with mode 0600; without it they go to standard output.",
    ),
  }).prefault({}).describe("One JSON line for every connect, deny and close."),
  tunnel: relayTunnelSchema.exactOptional(),
  drainSeconds: z.int().min(0).max(3600).default(30)
    .describe("How long flows may finish after SIGTERM."),
});

/** The relay's config, all defaults applied. */
export type RelayConfig = z.output<typeof relaySchema>;

/** Makes every path of the config absolute. */
export function resolveRelayPaths(config: RelayConfig, resolve: (path: string) => string): RelayConfig {
  return {
    ...config,
    identity: resolve(config.identity),
    policy: config.policy.map(resolve),
    authority: { ...config.authority, key: resolve(config.authority.key) },
    audit: config.audit.file === undefined ? config.audit : { file: resolve(config.audit.file) },
    ...(config.tunnel !== undefined && {
      tunnel: {
        ...config.tunnel,
        leases: resolve(config.tunnel.leases),
        policy: config.tunnel.policy.map(resolve),
      },
    }),
  };
}

function count(name: keyof RelayLimits, max: number) {
  return z.int().min(1).max(max).default(DEFAULT_RELAY_LIMITS[name]);
}
