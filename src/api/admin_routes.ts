/** All routes of administrators, mounted under `/api/v1` behind the gate. */

import type { OpenAPIHono } from "@hono/zod-openapi";
import { formatIp } from "../base/ip.ts";
import type { ServiceNetwork } from "../core/service/catalogue.ts";
import { virtualAddress } from "../core/service/virtual_address.ts";
import type { AdminPort } from "./admin_port.ts";
import { type ApiEnv, createRouter } from "./env.ts";
import { identityRoutes } from "./routes/identity_routes.ts";
import { ipamRoutes } from "./routes/ipam_routes.ts";
import { networkRoutes } from "./routes/network_routes.ts";
import { policyRoutes } from "./routes/policy_routes.ts";
import { presenceRoutes, sessionRoutes } from "./routes/presence_routes.ts";
import { plainRoutes } from "./routes/resource_routes.ts";
import { tokenRoutes } from "./routes/token_routes.ts";
import { queryFlag } from "./schema/common.ts";
import * as input from "./schema/inputs.ts";
import * as output from "./schema/outputs.ts";

/** Routes below `/api/v1`. */
export function adminRoutes(admin: AdminPort): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  router.route("/", networkRoutes(admin));
  router.route("/", presenceRoutes(admin));
  router.route("/identities", identityRoutes(admin));
  router.route(
    "/services",
    plainRoutes(admin, {
      kind: "service",
      collection: "services",
      input: input.serviceInput,
      edit: input.serviceEdit,
      output: output.serviceOutput,
      filters: { encryptionRequired: queryFlag },
      hasAttributes: true,
      more: ({ spec: { index } }) => ({ virtualAddresses: virtualAddresses(admin.services, index) }),
    }),
  );
  router.route(
    "/configs",
    plainRoutes(admin, {
      kind: "config",
      collection: "configs",
      input: input.configInput,
      edit: input.configEdit,
      output: output.configOutput,
      filters: { type: output.configOutput.shape.type },
    }),
  );
  router.route(
    "/service-policies",
    plainRoutes(admin, {
      kind: "service-policy",
      collection: "service-policies",
      input: input.servicePolicyInput,
      edit: input.servicePolicyEdit,
      output: output.servicePolicyOutput,
      filters: { type: output.servicePolicyOutput.shape.type },
    }),
  );
  router.route("/policies", policyRoutes(admin));
  router.route(
    "/trust-domains",
    plainRoutes(admin, {
      kind: "trust-domain",
      collection: "trust-domains",
      input: input.trustDomainInput,
      edit: input.trustDomainEdit,
      output: output.trustDomainOutput,
      filters: { disabled: queryFlag },
    }),
  );
  router.route(
    "/auth-providers",
    plainRoutes(admin, {
      kind: "auth-provider",
      collection: "auth-providers",
      input: input.authProviderInput,
      edit: input.authProviderEdit,
      output: output.authProviderOutput,
      filters: { disabled: queryFlag, issuer: output.authProviderOutput.shape.issuer },
    }),
  );
  router.route("/api-tokens", tokenRoutes(admin));
  router.route("/sessions", sessionRoutes(admin));
  router.route("/ipam", ipamRoutes(admin));
  return router;
}

function virtualAddresses(network: ServiceNetwork, index: number | undefined) {
  if (index === undefined) return null;
  const [ipv4, ipv6] = ([4, 6] as const).map((version) => formatIp(virtualAddress(network, version, index)));
  return { ipv4, ipv6, index };
}
