/** Config of mode `relay`. */

import { z } from "zod";
import { DEFAULT_RELAY_LIMITS, type RelayLimits } from "../../core/limits.ts";
import type { HostPort } from "../../base/address.ts";
import {
  dialAddress,
  duration,
  filePath,
  healthAddress,
  listenAddress,
  log,
  tlsName,
  unique,
} from "./common.ts";
import { type ControllerSettings, embeddedControllerSchema, resolveControllerPaths } from "./controller.ts";
import { refuseOverlap, type ServiceNetworkConfig, serviceNetworkSchema } from "./services.ts";
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

const authority = z.strictObject({
  key: filePath.describe("Key that signs the views, `authority.key` of `ginnel ca init`."),
  viewTtl: duration({ min: "1m", max: "7d" }).prefault("1h")
    .describe("How long nodes may go on with a view when the relay is away."),
});

/** Schema of the relay's config file. */
export const relaySchema = z.strictObject({
  mode: z.literal("relay"),
  identity: filePath.exactOptional().describe(
    "Identity file of the relay, made by `ginnel enroll` or `ginnel ca issue relay NAME`; with an embedded controller the relay gets one by itself.",
  ),
  name: tlsName.default("relay-1").describe(
    "The relay's name where an embedded controller makes its identity.",
  ),
  listen: z.strictObject({
    quic: listenAddress.prefault("0.0.0.0:4433").describe("UDP address for QUIC (HTTP/3)."),
    tls: listenAddress.nullable().prefault("0.0.0.0:4433")
      .describe("TCP address for the TLS carrier; `null` turns it off."),
  }).prefault({}).describe("Where the relay listens."),
  advertise: dialAddress.exactOptional()
    .describe("Address at which nodes reach this relay, told to them by an embedded controller."),
  controller: embeddedControllerSchema.exactOptional()
    .describe("A controller inside this relay: one process is a whole network."),
  controllers: z.array(z.strictObject({
    name: tlsName.describe("The controller's name."),
    url: z.url({ protocol: /^https$/, error: "not an https:// URL" }).max(1_024).describe("Its URL."),
  })).min(1).max(16).superRefine(unique("name")).exactOptional()
    .describe("Controllers to follow; those that the identity file names when absent."),
  data: filePath.prefault("relay-data")
    .describe(
      "Folder, mode 0700, for what a relay remembers of its controller, and audit lines on their way there.",
    ),
  policy: z.array(filePath).min(1, "name at least one policy file").max(256).exactOptional()
    .describe(
      "Without a controller: policy files (YAML or JSON), read as one document and again when they change.",
    ),
  authority: authority.exactOptional().describe("Without a controller: the authority in this relay."),
  services: serviceNetworkSchema.unwrap().exactOptional().describe(
    "Without a controller: how services appear on users' machines.",
  ),
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
}).superRefine((config, context) => {
  const { policy, authority, controller, controllers, identity, tunnel } = config;
  const refuse = (path: readonly string[], message: string) =>
    context.addIssue({ code: "custom", path: [...path], message });
  if (policy === undefined && authority === undefined) {
    if (config.services !== undefined) {
      refuse(["services"], "only without a controller: write it in the controller's settings");
    }
    if (controller !== undefined && controllers !== undefined) {
      refuse(["controllers"], "not beside controller: a relay has one source of policy");
    }
    if (controller === undefined && identity === undefined) {
      refuse(
        ["identity"],
        "is missing: name an identity file, or give controller for a network that this relay starts by itself",
      );
    }
    if (tunnel !== undefined && tunnel.policy.length > 0) {
      refuse(["tunnel", "policy"], "only without a controller: the egress policy is set through its API");
    }
    return;
  }
  if (policy === undefined) {
    refuse(["policy"], "is missing: authority is for a relay that reads policy files");
  }
  if (authority === undefined) {
    refuse(["authority"], "is missing: a relay that reads policy files signs the views");
  }
  if (identity === undefined) refuse(["identity"], "is missing");
  if (controller !== undefined) refuse(["controller"], "not beside policy: a relay has one source of policy");
  if (controllers !== undefined) {
    refuse(["controllers"], "not beside policy: a relay has one source of policy");
  }
  if (tunnel !== undefined && tunnel.policy.length === 0) {
    refuse(["tunnel", "policy"], "name at least one egress policy file");
  }
  if (tunnel !== undefined) {
    refuseOverlap({ services: config.services ?? serviceNetworkSchema.parse({}), tunnel }, context);
  }
});

/** The relay's config, all defaults applied. */
export type RelayConfig = z.output<typeof relaySchema>;

/** What tells a relay who may do what. */
export type RelaySource =
  | {
    readonly kind: "files";
    readonly identity: string;
    readonly policy: readonly string[];
    readonly authority: z.output<typeof authority>;
    readonly services: ServiceNetworkConfig;
  }
  | {
    readonly kind: "embedded";
    readonly controller: ControllerSettings;
    readonly name: string;
    readonly advertise: HostPort | undefined;
  }
  | {
    readonly kind: "remote";
    readonly identity: string;
    /** Undefined: those of the identity file. */
    readonly controllers: readonly { readonly name: string; readonly url: string }[] | undefined;
  };

/** Tells where a relay's rights come from. */
export function relaySource(config: RelayConfig): RelaySource {
  const { policy, authority, controller, controllers, identity, name, advertise, services } = config;
  if (controller !== undefined) return { kind: "embedded", controller, name, advertise };
  if (policy === undefined || authority === undefined) {
    return { kind: "remote", identity: identity!, controllers };
  }
  return {
    kind: "files",
    identity: identity!,
    policy,
    authority,
    services: services ?? serviceNetworkSchema.parse({}),
  };
}

/** Makes every path of the config absolute. */
export function resolveRelayPaths(config: RelayConfig, resolve: (path: string) => string): RelayConfig {
  const { identity, policy, authority, controller } = config;
  return {
    ...config,
    ...(identity !== undefined && { identity: resolve(identity) }),
    ...(policy !== undefined && { policy: policy.map(resolve) }),
    ...(authority !== undefined && { authority: { ...authority, key: resolve(authority.key) } }),
    ...(controller !== undefined && { controller: resolveControllerPaths(controller, resolve) }),
    data: resolve(config.data),
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
