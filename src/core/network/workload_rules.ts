/** Which attributes a workload of a foreign trust domain has, by the path of its SPIFFE ID. */

import type { TrustDomainSpec } from "./resources.ts";

/** Attributes of all rules that match, without repetition; undefined when none matches: not admitted. */
export function workloadAttributes(
  spec: Pick<TrustDomainSpec, "rules" | "disabled">,
  path: string,
): readonly string[] | undefined {
  if (spec.disabled) return undefined;
  const segments = segmentsOf(path);
  const matching = spec.rules.filter((rule) => matches(segmentsOf(rule.path), segments));
  if (matching.length === 0) return undefined;
  return [...new Set(matching.flatMap(({ roleAttributes }) => roleAttributes))];
}

/** Trust domain and path of a SPIFFE ID; undefined when it is none. */
export function splitSpiffeId(uri: string): { readonly domain: string; readonly path: string } | undefined {
  const match = /^spiffe:\/\/([a-z0-9._-]{1,255})((?:\/[A-Za-z0-9._-]+)+)$/.exec(uri);
  if (uri.length > MAX_SPIFFE_ID || match === null) return undefined;
  const path = match[2]!;
  if (segmentsOf(path).some((segment) => segment === "." || segment === "..")) return undefined;
  return { domain: match[1]!, path };
}

/** The longest SPIFFE ID that its standard allows. */
const MAX_SPIFFE_ID = 2048;

function segmentsOf(path: string): string[] {
  return path.replace(/^\//, "").split("/");
}

function matches(pattern: readonly string[], segments: readonly string[]): boolean {
  const isOpen = pattern.at(-1) === "**";
  const fixed = isOpen ? pattern.slice(0, -1) : pattern;
  if (isOpen ? segments.length <= fixed.length : segments.length !== fixed.length) return false;
  return fixed.every((part, index) => part === "*" || part === segments[index]);
}
