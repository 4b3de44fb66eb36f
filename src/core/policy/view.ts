/** The part of a policy that one identity needs to enforce it by itself: what it may Dial and Bind, with whom. */

import type { ServiceNetworkText } from "../service/service_network.ts";
import type { PolicySnapshot } from "./snapshot.ts";
import type { RightsView } from "./rights_view.ts";
import { ViewCompiler } from "./view_compiler.ts";

/** The claims of a signed view. `iat` and `exp` are seconds since the epoch. */
export interface ViewClaims extends RightsView {
  readonly rev: number;
  readonly sub: string;
  readonly iat: number;
  readonly exp: number;
  /** How services appear on machines; absent in networks that say nothing of it. */
  readonly services?: ServiceNetworkText;
}

/** What views depend on besides the policy. */
export interface ViewOptions {
  readonly revision: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Milliseconds. */
  readonly ttl: number;
  /** SPIFFE IDs that may appear as peers: those declared and those connected. */
  readonly knownIdentities: Iterable<string>;
  readonly services?: ServiceNetworkText;
}

/**
 * Returns a function that compiles views of many identities and finds the peers of each service only once:
 * after a reload every connected identity needs a new view. Lists are sorted, so equal rights give equal views.
 */
export function createViewCompiler(
  snapshot: PolicySnapshot,
  options: ViewOptions,
): (id: string) => ViewClaims {
  const compiler = new ViewCompiler();
  compiler.update(snapshot, { known: options.knownIdentities, changed: "all" });
  const iat = Math.floor(options.now / 1000);
  const exp = Math.floor((options.now + options.ttl) / 1000);
  const head = { iat, exp, ...(options.services !== undefined && { services: options.services }) };
  return (id) => ({ rev: options.revision, sub: id, ...head, ...compiler.rightsOf(id) });
}
