/** What answers show of resources. A field that is not named here never leaves the controller. */

import { z } from "@hono/zod-openapi";
import { API_COLLECTIONS } from "../../core/network/access.ts";
import { ADMIN_ROLES } from "../../core/network/resources.ts";
import { isoTime, resourceFields } from "./common.ts";

const notes = z.record(z.string(), z.unknown());
const words = z.array(z.string());

/** An identity; `adminRole` and `externalId` are shown to administrators alone. */
export const identityOutput = z.object({
  ...resourceFields,
  type: z.enum(["relay", "controller", "connector", "agent", "user", "workload"]),
  spiffeId: z.string(),
  roleAttributes: words,
  derivedAttributes: words,
  disabled: z.boolean(),
  origin: z.enum(["enrolment", "oidc", "spiffe", "import"]),
  address: z.string().nullable(),
  tags: notes,
  adminRole: z.enum(ADMIN_ROLES).nullable().optional(),
  externalId: z.string().nullable().optional(),
}).openapi("Identity");

/** A service. */
export const serviceOutput = z.object({
  ...resourceFields,
  configs: words,
  encryptionRequired: z.boolean(),
  roleAttributes: words,
  idleTimeout: z.int(),
  virtualAddresses: z.object({ ipv4: z.string(), ipv6: z.string(), index: z.int() }).nullable(),
  tags: notes,
}).openapi("Service");

/** A config. */
export const configOutput = z.object({
  ...resourceFields,
  type: z.enum(["intercept.v1", "host.v1"]),
  data: notes,
  tags: notes,
}).openapi("Config");

/** A service policy. */
export const servicePolicyOutput = z.object({
  ...resourceFields,
  type: z.enum(["Dial", "Bind"]),
  semantic: z.enum(["AnyOf", "AllOf"]),
  identityRoles: words,
  serviceRoles: words,
  tags: notes,
}).openapi("ServicePolicy");

/** One version of an egress policy. */
export const policyOutput = z.object({
  ...resourceFields,
  version: z.string(),
  description: z.string(),
  document: notes,
  active: z.boolean(),
}).openapi("Policy");

/** A foreign trust domain. */
export const trustDomainOutput = z.object({
  ...resourceFields,
  roots: words,
  rules: z.array(z.object({ path: z.string(), roleAttributes: words })),
  disabled: z.boolean(),
}).openapi("TrustDomain");

/** An OpenID provider. */
export const authProviderOutput = z.object({
  ...resourceFields,
  issuer: z.string(),
  clientId: z.string(),
  scopes: words,
  nameClaim: z.string(),
  rules: z.array(z.object({
    claim: z.string(),
    value: z.string().optional(),
    roleAttributes: words,
    adminRole: z.enum(ADMIN_ROLES).optional(),
  })),
  requireMatch: z.boolean(),
  disabled: z.boolean(),
}).openapi("AuthProvider");

/** An API token, without its secret. */
export const apiTokenOutput = z.object({
  ...resourceFields,
  role: z.enum(ADMIN_ROLES),
  scopes: z.array(z.enum(API_COLLECTIONS)),
  expiresAt: isoTime.nullable(),
  bootstrap: z.boolean(),
}).openapi("ApiToken");
