/** Config of mode `controller`, and of the controller that a relay embeds. */

import { z } from "zod";
import { parseIp } from "../../base/ip.ts";
import { duration, filePath, healthAddress, listenAddress, log, tlsName } from "./common.ts";
import { refuseOverlap, serviceNetworkSchema } from "./services.ts";
import { poolFields, refinePools } from "./tunnel.ts";

const database = z.strictObject({
  kind: z.enum(["sqlite", "postgres"]).default("sqlite")
    .describe("`sqlite` for one controller, `postgres` for several that share it."),
  path: filePath.exactOptional().describe("SQLite: the file; `ginnel.db` in the data folder when absent."),
  urlFile: filePath.exactOptional()
    .describe("PostgreSQL: file, mode 0600, with the URL `postgres://user:password@host:port/database`."),
}).superRefine(({ kind, path, urlFile }, context) => {
  if (kind === "postgres" && urlFile === undefined) {
    context.addIssue({
      code: "custom",
      path: ["urlFile"],
      message: "is missing: name the file with the database's URL",
    });
  }
  if (kind === "postgres" && path !== undefined) {
    context.addIssue({ code: "custom", path: ["path"], message: "only for kind sqlite" });
  }
  if (kind === "sqlite" && urlFile !== undefined) {
    context.addIssue({ code: "custom", path: ["urlFile"], message: "only for kind postgres" });
  }
});

/** DNS name or IP address by which clients reach the controller. */
const hostName = z.string().max(253).refine(
  (name) =>
    parseIp(name) !== undefined ||
    /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(name),
  "not a DNS name in lower case, nor an IP address",
);

/** The controller's settings wherever it runs. */
const settings = {
  trustDomain: z.string().regex(
    /^[a-z0-9._-]{1,255}$/,
    "not a trust domain: lower-case letters, digits and . _ -",
  )
    .describe("Name of the network, such as `example.internal`; it can never change."),
  name: tlsName.default("controller-1")
    .describe(
      "The controller's own name: nodes ask for it. Controllers that share a database need one each.",
    ),
  data: filePath.prefault("data").describe(
    "Folder, mode 0700, for the CA, the controller's identity and the SQLite database; made at the first start.",
  ),
  database: database.prefault({}).describe("Where everything is kept."),
  listen: listenAddress.prefault("0.0.0.0:8441").describe("TCP address of the API (HTTPS)."),
  url: z.url({ protocol: /^https$/, error: "not an https:// URL" }).max(1_024).exactOptional().describe(
    "URL by which nodes and administrators reach this controller; by default made of the first name and the port.",
  ),
  names: z.array(hostName).max(32).prefault(["localhost", "127.0.0.1"])
    .describe("DNS names and IP addresses to put into the controller's TLS certificate."),
  peers: z.array(z.strictObject({
    name: tlsName.describe("Its name."),
    url: z.url({ protocol: /^https$/, error: "not an https:// URL" }).max(1_024).describe("Its URL."),
  })).max(15).prefault([]).describe("The other controllers that share the database; nodes are told of them."),
  tunnel: z.strictObject(poolFields).superRefine(refinePools).prefault({})
    .describe("Addresses of IP tunnels, the same at every relay."),
  services: serviceNetworkSchema,
  certificates: z.strictObject({
    node: duration({ min: "10s", max: "3650d" }).prefault("30d")
      .describe("Life of a relay's, connector's or agent's certificate; renewed at two thirds."),
    user: duration({ min: "10s", max: "30d" }).prefault("8h").describe(
      "Life of a certificate given for a login.",
    ),
    enrolment: duration({ min: "1s", max: "30d" }).prefault("24h").describe(
      "How long an enrolment token can be used.",
    ),
  }).prefault({}).describe("How long what the controller issues is valid."),
  viewTtl: duration({ min: "1m", max: "7d" }).prefault("24h")
    .describe("How long nodes go on with the rights they were told of while no controller can be reached."),
  oidc: z.strictObject({
    allowPrivate: z.array(z.string().min(1).max(253)).max(64).prefault([]).describe(
      "Hosts and prefixes in private ranges at which OpenID providers may be asked for keys.",
    ),
    ca: filePath.exactOptional().describe(
      "PEM file of CAs that OpenID providers' certificates may come from, beside the public ones; read at the start.",
    ),
  }).prefault({}).describe("OpenID providers themselves are set up through the API."),
};

/** A controller inside a relay. */
export const embeddedControllerSchema = z.strictObject(settings).superRefine(refuseOverlap);

/** Schema of the controller's config file. */
export const controllerSchema = z.strictObject({
  mode: z.literal("controller"),
  ...settings,
  health: healthAddress.nullable().prefault("0.0.0.0:8080")
    .describe("Where `/health` and `/ready` are served without TLS; `null` turns that off."),
  log,
}).superRefine(refuseOverlap);

/** Settings of a controller, all defaults applied. */
export type ControllerSettings = z.output<typeof embeddedControllerSchema>;

/** The controller's config, all defaults applied. */
export type ControllerConfig = z.output<typeof controllerSchema>;

/** Makes every path of a controller's settings absolute. */
export function resolveControllerPaths<C extends ControllerSettings>(
  config: C,
  resolve: (path: string) => string,
): C {
  const { database, oidc } = config;
  return {
    ...config,
    data: resolve(config.data),
    oidc: { ...oidc, ...(oidc.ca !== undefined && { ca: resolve(oidc.ca) }) },
    database: {
      ...database,
      ...(database.path !== undefined && { path: resolve(database.path) }),
      ...(database.urlFile !== undefined && { urlFile: resolve(database.urlFile) }),
    },
  };
}
