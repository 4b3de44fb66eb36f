/** What must hold of a resource beyond its shape: names and roles well formed, references that lead somewhere. */

import { parseHostPort } from "../../base/address.ts";
import type { FieldProblem } from "../../core/network/administration.ts";
import type { Resource, ResourceKind, ResourceSpecs } from "../../core/network/resources.ts";
import { roleAttributeFault, roleFault, roleListFault, type RoleSide } from "../../core/policy/role_forms.ts";
import { hostSchema } from "../../core/service/host.ts";
import { interceptSchema } from "../../core/service/intercept.ts";
import { serviceNameFault } from "../../core/service_name.ts";
import { parseCertificatesPem } from "../../identity/certificate.ts";
import { IdentityError } from "../../identity/errors.ts";
import type { StoreTransaction } from "../store.ts";

/** A resource that is about to be written. */
interface Draft<K extends ResourceKind> {
  readonly name: string;
  readonly spec: ResourceSpecs[K];
}

/** What checks may look at. */
export interface CheckContext {
  readonly tx: StoreTransaction;
  /** The network's own. */
  readonly trustDomain: string;
}

type Checks = {
  readonly [K in ResourceKind]?: (
    draft: Draft<K>,
    context: CheckContext,
  ) => FieldProblem[] | Promise<FieldProblem[]>;
};

const CHECKS: Checks = {
  "identity": ({ spec }) => [
    ...attributeProblems(spec.roleAttributes),
    ...addressProblems(spec.address),
    ...(spec.adminRole === null || spec.type === "agent" || spec.type === "user"
      ? []
      : [{ field: "adminRole", message: "only agents and users may have one" }]),
  ],
  "service": async ({ name, spec }, { tx }) => [
    ...problem("name", serviceNameFault(name)),
    ...attributeProblems(spec.roleAttributes),
    ...await configProblems(spec.configs, tx),
  ],
  "config": ({ spec: { type, data } }) => {
    const { error } = (type === "host.v1" ? hostSchema : interceptSchema).safeParse(data);
    return (error?.issues ?? []).map(({ path, message }) => ({ field: fieldOf(["data", ...path]), message }));
  },
  "service-policy": ({ spec }) => [
    ...roleProblems("identityRoles", spec.identityRoles, "identity"),
    ...roleProblems("serviceRoles", spec.serviceRoles, "service"),
  ],
  "trust-domain": ({ name, spec }, { trustDomain }) => [
    ...problem("name", name === trustDomain ? "is the network's own: its CA stands by itself" : undefined),
    ...spec.roots.flatMap((pem, index) => problem(`roots[${index}]`, pemFault(pem))),
    ...spec.rules.flatMap(({ roleAttributes }, index) =>
      attributeProblems(roleAttributes, `rules[${index}].`)
    ),
  ],
  "auth-provider": ({ spec }) =>
    spec.rules.flatMap(({ roleAttributes }, index) => templateProblems(roleAttributes, `rules[${index}].`)),
};

/** Everything that is wrong with a resource. */
export async function findProblems<K extends ResourceKind>(
  kind: K,
  draft: Draft<K>,
  context: CheckContext,
): Promise<readonly FieldProblem[]> {
  return await CHECKS[kind]?.(draft, context) ?? [];
}

/** The services that use a config. */
export async function servicesWith(configId: string, tx: StoreTransaction): Promise<readonly string[]> {
  const users: string[] = [];
  let cursor: string | null = null;
  do {
    const page: { readonly items: readonly Resource<"service">[]; readonly cursor: string | null } = await tx
      .list("service", { limit: 500, ...(cursor === null ? {} : { cursor }) });
    for (const { name, spec } of page.items) if (spec.configs.includes(configId)) users.push(name);
    cursor = page.cursor;
  } while (cursor !== null);
  return users;
}

async function configProblems(ids: readonly string[], tx: StoreTransaction): Promise<FieldProblem[]> {
  const problems: FieldProblem[] = [];
  const types = new Set<string>();
  for (const [index, id] of ids.entries()) {
    const config = await tx.get("config", id);
    if (config === undefined) {
      problems.push({ field: `configs[${index}]`, message: "there is no such config" });
    } else if (types.has(config.spec.type)) {
      problems.push({ field: `configs[${index}]`, message: `a second config of type ${config.spec.type}` });
    } else types.add(config.spec.type);
  }
  return problems;
}

function attributeProblems(attributes: readonly string[], prefix = ""): FieldProblem[] {
  return attributes.flatMap((attribute, index) =>
    problem(`${prefix}roleAttributes[${index}]`, roleAttributeFault(attribute))
  );
}

/** As attributes, where `{value}` stands for a claim's value. */
function templateProblems(attributes: readonly string[], prefix: string): FieldProblem[] {
  return attributeProblems(attributes.map((attribute) => attribute.replaceAll("{value}", "value")), prefix);
}

function roleProblems(field: string, roles: readonly string[], side: RoleSide): FieldProblem[] {
  return [
    ...problem(field, roleListFault(roles)),
    ...roles.flatMap((role, index) => problem(`${field}[${index}]`, roleFault(role, side))),
  ];
}

function addressProblems(address: string | null): FieldProblem[] {
  if (address === null) return [];
  try {
    if (parseHostPort(address).port > 0) return [];
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return [{ field: "address", message: "not an address: write host:port or [ipv6]:port" }];
}

function pemFault(pem: string): string | undefined {
  try {
    const certificates = parseCertificatesPem(pem);
    if (certificates.length !== 1) return "give one certificate in each entry";
    return certificates[0]!.isCa ? undefined : "is not the certificate of a CA";
  } catch (error) {
    if (!(error instanceof IdentityError)) throw error;
    return error.message;
  }
}

function problem(field: string, message: string | undefined): FieldProblem[] {
  return message === undefined ? [] : [{ field, message }];
}

/** A path as text, such as `data.portRanges[0].low`. */
function fieldOf(path: readonly PropertyKey[]): string {
  return path.map((part) => typeof part === "number" ? `[${part}]` : `.${String(part)}`).join("").slice(1);
}
