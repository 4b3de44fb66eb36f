/** Schema of policy files; the shapes and names of roles follow OpenZiti. */

import { z } from "zod";
import { hostSchema } from "../../core/service/host.ts";
import { interceptSchema } from "../../core/service/intercept.ts";
import { SERVICE_INDEXES } from "../../core/service/virtual_address.ts";
import { duration, serviceName } from "./common.ts";

const ATTRIBUTE = String.raw`[^\s#@\x00-\x1f\x7f][^\s\x00-\x1f\x7f]{0,127}`;
const IDENTITY_NAME = String.raw`(?:(?:connector|agent|user)/)?[A-Za-z0-9._-]{1,63}`;
const SPIFFE_ID = String.raw`spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]{1,255}){1,16}`;

const UNQUOTED = 'is empty: put "#…" in quotes, since YAML takes a bare # for a comment';

const roleAttributes = z.array(
  z.string()
    .regex(new RegExp(`^${ATTRIBUTE}$`, "u"), "not an attribute: leave out the # and write it without spaces")
    .refine((attribute) => attribute !== "all", "everything has the attribute all already"),
).max(256);

const identity = z.strictObject({
  name: z.string()
    .regex(
      new RegExp(`^${IDENTITY_NAME}$`),
      "not an identity name: write NAME, agent/NAME, user/NAME or connector/NAME",
    )
    .exactOptional()
    .describe(
      "`alice` (any agent, user or connector of that name) or `agent/alice`; with `id`, a name for that id alone.",
    ),
  id: z.string()
    .regex(new RegExp(`^${SPIFFE_ID}$`), "not a SPIFFE ID: write spiffe://DOMAIN/KIND/NAME")
    .max(2048).exactOptional().describe("A full SPIFFE ID."),
  roleAttributes: roleAttributes.default([]).describe("Attributes, without `#`."),
}).superRefine((entry, context) => {
  if (entry.name === undefined && entry.id === undefined) {
    context.addIssue({ code: "custom", path: [], message: "give name, id or both" });
  }
  // With an id the name is a nickname: one that reads as another certificate's path would mislead.
  if (entry.id !== undefined && entry.name?.includes("/") && !entry.id.endsWith(`/${entry.name}`)) {
    context.addIssue({
      code: "custom",
      path: ["name"],
      message: "contradicts id: leave out the part before /",
    });
  }
});

const service = z.strictObject({
  name: serviceName.describe("The service's name."),
  roleAttributes: roleAttributes.default([]).describe("Attributes, without `#`."),
  endToEnd: z.enum(["required", "optional"]).default("required")
    .describe(
      "`optional` also lets in clients that cannot seal end to end; the relay then sees their traffic.",
    ),
  index: z.int().min(SERVICE_INDEXES.first).max(SERVICE_INDEXES.last).exactOptional().describe(
    "Its number: the last 16 bits of its virtual addresses. Absent: one that follows from its name.",
  ),
  intercept: interceptSchema.exactOptional().describe(
    "`intercept.v1`: further names and addresses under which it appears on users' machines, and its ports.",
  ),
  host: hostSchema.exactOptional().describe(
    "`host.v1`: where connectors that allow it carry its flows.",
  ),
  idleTimeout: duration({ min: "5s", max: "1d" })
    .refine((milliseconds) => milliseconds % 1_000 === 0, { message: "give whole seconds" })
    .transform((milliseconds) => milliseconds / 1_000).exactOptional().describe(
      "How long a UDP flow lives that carries nothing; 120s when absent.",
    ),
});

const identityRoles = roles(
  new RegExp(`^(?:#${ATTRIBUTE}|@${IDENTITY_NAME}|@${SPIFFE_ID})$`, "u"),
  "not an identity role: write #attribute, @name, @agent/name, @spiffe://… or #all",
);

const serviceRoles = roles(
  new RegExp(String.raw`^(?:#${ATTRIBUTE}|@[a-z0-9_.-]{1,200})$`, "u"),
  "not a service role: write #attribute, @name or #all",
);

/** Schema of one service policy. */
export const servicePolicySchema = z.strictObject({
  name: z.string().min(1).max(255).describe("Name for logs; unique."),
  type: z.enum(["Dial", "Bind"]).describe(
    "`Dial` lets identities reach services, `Bind` lets them offer services.",
  ),
  identityRoles: identityRoles.describe(
    "Who: `#attribute`, `@name`, `@agent/name`, `@spiffe://…` or `#all`.",
  ),
  serviceRoles: serviceRoles.describe("What: `#attribute`, `@name` or `#all`."),
  semantic: z.enum(["AnyOf", "AllOf"]).default("AllOf")
    .describe(
      "Whether one `#attribute` of a list is enough or all are needed; `@name` always matches by itself.",
    ),
});

/** Schema of a list of service policies. */
export const policyListSchema = z.array(servicePolicySchema);

/** Schema of a whole policy document. */
export const policySchema = z.strictObject({
  identities: z.array(identity).default([]).describe("Who carries which attributes."),
  services: z.array(service).default([]).describe(
    "The services there are; others cannot be offered or reached.",
  ),
  servicePolicies: policyListSchema.default([]).describe(
    "Who may reach and who may offer what; all else is denied.",
  ),
});

function roles(pattern: RegExp, message: string) {
  const error = (issue: { readonly input?: unknown }) => issue.input === null ? UNQUOTED : undefined;
  return z.array(z.string({ error }).regex(pattern, message)).max(256).superRefine((list, context) => {
    if (list.length > 1 && list.includes("#all")) {
      context.addIssue({
        code: "custom",
        path: [],
        message: "#all stands alone: remove it or the other roles",
      });
    }
  });
}
