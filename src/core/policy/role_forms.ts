/** The forms of role attributes and roles: what a policy may say, judged one word at a time. */

// deno-lint-ignore no-control-regex -- that they are refused is the point
const ATTRIBUTE = /^[^\s#@\x00-\x1f\x7f][^\s\x00-\x1f\x7f]{0,127}$/u;
const IDENTITY_NAME = /^(?:(?:connector|agent|user)\/)?[A-Za-z0-9._-]{1,63}$/;
const SPIFFE_ID = /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/[A-Za-z0-9._-]{1,255}){1,16}$/;
const SERVICE_NAME = /^[a-z0-9_.-]{1,200}$/;

/** Which side of a policy a role stands on. */
export type RoleSide = "identity" | "service";

/** Tells what is wrong with an attribute, or returns undefined. */
export function roleAttributeFault(attribute: string): string | undefined {
  if (attribute === "all") return "everything has the attribute all already";
  return ATTRIBUTE.test(attribute)
    ? undefined
    : "not an attribute: leave out the # and write it without blanks";
}

/** Tells what is wrong with one role of a policy, or returns undefined. */
export function roleFault(role: string, side: RoleSide): string | undefined {
  const word = role.slice(1);
  if (role.startsWith("#") && ATTRIBUTE.test(word)) return undefined;
  if (side === "service") {
    if (role.startsWith("@") && SERVICE_NAME.test(word)) return undefined;
    return "not a service role: write #attribute, @name or #all";
  }
  if (role.startsWith("@") && (IDENTITY_NAME.test(word) || SPIFFE_ID.test(word))) return undefined;
  return "not an identity role: write #attribute, @name, @agent/name, @spiffe://… or #all";
}

/** Tells what is wrong with a list of roles as a whole, or returns undefined. */
export function roleListFault(roles: readonly string[]): string | undefined {
  return roles.length > 1 && roles.includes("#all")
    ? "#all stands alone: remove it or the other roles"
    : undefined;
}
