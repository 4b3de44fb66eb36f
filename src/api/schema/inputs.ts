/** Inputs of the resources administrators manage. `fields` are what a PATCH may name, `defaults` what a POST may omit. */

import { z } from "@hono/zod-openapi";
import { API_COLLECTIONS } from "../../core/network/access.ts";
import { DEFAULT_IDLE_TIMEOUT } from "../../core/policy/document.ts";
import { hostSchema } from "../../core/service/host.ts";
import { interceptSchema } from "../../core/service/intercept.ts";
import { ADMIN_ROLES } from "../../core/network/resources.ts";
import { isoTime, resourceName, roleAttributes, tags } from "./common.ts";

const adminRole = z.enum(ADMIN_ROLES);

/** `#attribute`, `@name` or `#all`; judged by the administration. */
const roles = z.array(z.string().min(2).max(2_100)).max(256);

const identityFields = {
  roleAttributes: roleAttributes,
  disabled: z.boolean(),
  adminRole: adminRole.nullable(),
  address: z.string().min(3).max(320).nullable(),
  tags,
};

/** A new identity, or all of one. */
export const identityInput = z.strictObject({
  name: z.string().min(1).max(255),
  type: z.enum(["relay", "connector", "agent", "user", "workload"]),
  spiffeId: z.string().max(2_048).optional(),
  roleAttributes: identityFields.roleAttributes.default([]),
  disabled: identityFields.disabled.default(false),
  adminRole: identityFields.adminRole.default(null),
  address: identityFields.address.default(null),
  tags: tags.default({}),
}).openapi("IdentityInput");

/** A change of an identity. */
export const identityEdit = z.strictObject(identityFields).partial().openapi("IdentityEdit");

const serviceFields = {
  name: z.string().min(1).max(200),
  configs: z.array(z.uuid()).max(8),
  encryptionRequired: z.boolean(),
  roleAttributes: roleAttributes,
  /** Seconds. */
  idleTimeout: z.int().min(5).max(86_400),
  tags,
};

/** A new service, or all of one. */
export const serviceInput = z.strictObject({
  name: serviceFields.name,
  configs: serviceFields.configs.default([]),
  encryptionRequired: serviceFields.encryptionRequired.default(true),
  roleAttributes: roleAttributes.default([]),
  idleTimeout: serviceFields.idleTimeout.default(DEFAULT_IDLE_TIMEOUT),
  tags: tags.default({}),
}).openapi("ServiceInput");

/** A change of a service. */
export const serviceEdit = z.strictObject(serviceFields).partial().openapi("ServiceEdit");

// As clones: only what is made after `@hono/zod-openapi` was loaded knows `openapi`.
/** Data of an `intercept.v1` config: what agents catch. */
const interceptData = interceptSchema.clone().openapi("InterceptV1");

/** Data of a `host.v1` config: what connectors dial. */
const hostData = hostSchema.clone().openapi("HostV1");

/** A new config, or all of one. */
export const configInput = z.discriminatedUnion("type", [
  z.strictObject({
    name: resourceName,
    type: z.literal("intercept.v1"),
    data: interceptData,
    tags: tags.default({}),
  }),
  z.strictObject({ name: resourceName, type: z.literal("host.v1"), data: hostData, tags: tags.default({}) }),
]).openapi("ConfigInput");

/** A change of a config; its type stays, and `data` is replaced as a whole. */
export const configEdit = z.strictObject({
  name: resourceName,
  data: z.union([interceptData, hostData]),
  tags,
}).partial().openapi("ConfigEdit");

const servicePolicyFields = {
  name: resourceName,
  type: z.enum(["Dial", "Bind"]),
  semantic: z.enum(["AnyOf", "AllOf"]),
  identityRoles: roles,
  serviceRoles: roles,
  tags,
};

/** A new service policy, or all of one. */
export const servicePolicyInput = z.strictObject({
  ...servicePolicyFields,
  semantic: servicePolicyFields.semantic.default("AllOf"),
  tags: tags.default({}),
}).openapi("ServicePolicyInput");

/** A change of a service policy. */
export const servicePolicyEdit = z.strictObject(servicePolicyFields).partial().openapi("ServicePolicyEdit");

const policyFields = {
  version: z.string().regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
    "letters, digits, dots, dashes, underscores",
  ),
  description: z.string().max(4_096),
  document: z.record(z.string().max(64), z.unknown()),
};

/** The first version of an egress policy. */
export const policyInput = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$/, "letters, digits, dots, dashes, underscores"),
  version: policyFields.version.default("1"),
  description: policyFields.description.default(""),
  document: policyFields.document,
}).openapi("PolicyInput");

/** A further version; without `version` it gets the next whole number. */
export const policyRevision = z.strictObject({
  name: z.string().max(255).optional(),
  version: policyFields.version.optional(),
  description: policyFields.description.default(""),
  document: policyFields.document,
}).openapi("PolicyRevision");

const trustDomainFields = {
  name: z.string().regex(/^[a-z0-9._-]{1,255}$/, "a trust domain: lower-case letters, digits, dots, dashes"),
  roots: z.array(z.string().min(1).max(16_384)).min(1).max(16),
  rules: z.array(z.strictObject({
    path: z.string().regex(
      /^(?:\/(?:[A-Za-z0-9._-]{1,255}|\*))*\/(?:[A-Za-z0-9._-]{1,255}|\*|\*\*)$/,
      "a path such as /ns/*/sa/web, or /ns/**",
    ),
    roleAttributes,
  })).max(256),
  disabled: z.boolean(),
};

/** A new foreign trust domain, or all of one. */
export const trustDomainInput = z.strictObject({
  ...trustDomainFields,
  rules: trustDomainFields.rules.default([]),
  disabled: trustDomainFields.disabled.default(false),
}).openapi("TrustDomainInput");

/** A change of a foreign trust domain. */
export const trustDomainEdit = z.strictObject(trustDomainFields).partial().openapi("TrustDomainEdit");

const authProviderFields = {
  name: resourceName,
  issuer: z.url({ protocol: /^https?$/ }).max(2_048),
  clientId: z.string().min(1).max(255),
  scopes: z.array(z.string().min(1).max(128)).max(32),
  nameClaim: z.string().min(1).max(255),
  rules: z.array(z.strictObject({
    claim: z.string().min(1).max(255),
    value: z.string().max(1_024).optional(),
    roleAttributes,
    adminRole: adminRole.optional(),
  })).max(256),
  requireMatch: z.boolean(),
  disabled: z.boolean(),
};

/** A new OpenID provider, or all of one. */
export const authProviderInput = z.strictObject({
  ...authProviderFields,
  scopes: authProviderFields.scopes.default(["openid", "profile", "email"]),
  nameClaim: authProviderFields.nameClaim.default("preferred_username"),
  rules: authProviderFields.rules.default([]),
  requireMatch: authProviderFields.requireMatch.default(true),
  disabled: authProviderFields.disabled.default(false),
}).openapi("AuthProviderInput");

/** A change of an OpenID provider. */
export const authProviderEdit = z.strictObject(authProviderFields).partial().openapi("AuthProviderEdit");

/** A new API token. */
export const apiTokenInput = z.strictObject({
  name: resourceName,
  role: adminRole,
  scopes: z.array(z.enum(API_COLLECTIONS)).max(API_COLLECTIONS.length).default([]),
  expiresAt: isoTime.nullable().default(null),
}).openapi("ApiTokenInput");
