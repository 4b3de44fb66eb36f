/**
 * From a login's claims to what the network calls the user: a name, attributes, a role at the API. Only what an
 * administrator's rules say; nothing is taken over from a token by itself.
 */

import type { AdminRole, AuthProviderSpec, ClaimRule } from "../../core/network/resources.ts";
import type { IdTokenClaims } from "../../identity/oidc/verify_id_token.ts";

/** What claims come to. */
export interface MappedClaims {
  /** A name in the form of identities' names; no two users are told apart by it. */
  readonly name: string;
  /** `issuer|subject`: who it is. */
  readonly externalId: string;
  /** Sorted, without repetition. */
  readonly roleAttributes: readonly string[];
  /** The highest role that a rule gives; null: none. */
  readonly adminRole: AdminRole | null;
  /** Whether any rule matched. */
  readonly matched: boolean;
}

/** Most values of one claim that are looked at; Active Directory users have hundreds of groups. */
const MAX_VALUES = 1024;

/** Most attributes of one user. */
const MAX_ATTRIBUTES = 256;

/** Longest name: room for a suffix within the 63 characters that identities have. */
const MAX_NAME_LENGTH = 48;

/** Ascending. */
const RANKS: readonly AdminRole[] = ["viewer", "operator", "admin"];

/** An attribute as policies can name it. */
const ATTRIBUTE = /^[^\s#@\p{Cc}][^\s\p{Cc}]{0,127}$/u;

/** Applies a provider's rules to the claims of a verified token. */
export function mapClaims(claims: IdTokenClaims, provider: AuthProviderSpec): MappedClaims {
  const attributes = new Set<string>();
  let rank = -1;
  let matched = false;
  for (const rule of provider.rules) {
    const values = matchingValues(claims, rule);
    if (values.length === 0) continue;
    matched = true;
    for (const attribute of attributesOf(rule, values)) {
      if (attributes.size < MAX_ATTRIBUTES) attributes.add(attribute);
    }
    if (rule.adminRole !== undefined) rank = Math.max(rank, RANKS.indexOf(rule.adminRole));
  }
  return {
    name: nameOf(claims, provider.nameClaim),
    externalId: `${claims.iss}|${claims.sub}`,
    roleAttributes: [...attributes].sort(),
    adminRole: RANKS[rank] ?? null,
    matched,
  };
}

/** Whether a provider's rules decide about roles at the API, in place of administrators. */
export function decidesRoles(provider: AuthProviderSpec): boolean {
  return provider.rules.some((rule) => rule.adminRole !== undefined);
}

function matchingValues(claims: IdTokenClaims, rule: ClaimRule): string[] {
  const values = valuesAt(claims, rule.claim);
  return rule.value === undefined ? values : values.filter((value) => value === rule.value);
}

function attributesOf(rule: ClaimRule, values: readonly string[]): string[] {
  const found: string[] = [];
  for (const template of rule.roleAttributes) {
    if (!template.includes("{value}")) found.push(template);
    // A value in another alphabet is left out: bent into form, two groups could become one.
    else {found.push(
        ...values.map((value) => template.replaceAll("{value}", () => value)).filter(isAttribute),
      );}
  }
  return found;
}

function isAttribute(text: string): boolean {
  return ATTRIBUTE.test(text) && text !== "all";
}

/** The values of a claim as text: of a list its entries, of an object its members' names. */
function valuesAt(claims: IdTokenClaims, path: string): string[] {
  const value = path === "email" && claims.email_verified === false ? undefined : valueAt(claims, path);
  const list = Array.isArray(value) ? value : isObject(value) ? Object.keys(value) : [value];
  return list.slice(0, MAX_VALUES).filter(isScalar).map(String);
}

/** A claim may have dots in its own name, as those that are URLs do; the longest name that is there wins. */
function valueAt(value: unknown, path: string): unknown {
  if (!isObject(value)) return undefined;
  if (Object.hasOwn(value, path)) return value[path];
  for (let dot = path.lastIndexOf("."); dot > 0; dot = path.lastIndexOf(".", dot - 1)) {
    const head = path.slice(0, dot);
    if (Object.hasOwn(value, head)) return valueAt(value[head], path.slice(dot + 1));
  }
  return undefined;
}

function nameOf(claims: IdTokenClaims, nameClaim: string): string {
  const [value = claims.sub] = valuesAt(claims, nameClaim);
  return toName(value) ?? toName(claims.sub) ?? "user";
}

function toName(text: string): string | undefined {
  const name = text.slice(0, 4 * MAX_NAME_LENGTH).normalize("NFKC").toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-").slice(0, MAX_NAME_LENGTH).replace(/^[-.]+|[-.]+$/g, "");
  return name === "" ? undefined : name;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isScalar(value: unknown): value is string | number | boolean {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean";
}
