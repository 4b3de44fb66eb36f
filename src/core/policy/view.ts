/** The part of a policy that one identity needs to enforce it by itself: what it may Dial and Bind, with whom. */

import type { EndToEnd } from "./document.ts";
import type { PolicySnapshot, Rights } from "./snapshot.ts";

/** A service the subject may Dial, and who may Bind it. */
export interface ViewDial {
  readonly service: string;
  readonly endToEnd: EndToEnd;
  /** SPIFFE IDs, sorted. */
  readonly bind: readonly string[];
}

/** A service the subject may Bind, and who may Dial it. */
export interface ViewBind {
  readonly service: string;
  readonly endToEnd: EndToEnd;
  /** SPIFFE IDs, sorted. */
  readonly dial: readonly string[];
}

/** The claims of a signed view. `iat` and `exp` are seconds since the epoch. */
export interface ViewClaims {
  readonly rev: number;
  readonly sub: string;
  readonly iat: number;
  readonly exp: number;
  readonly dial: readonly ViewDial[];
  readonly bind: readonly ViewBind[];
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
}

/**
 * Returns a function that compiles views of many identities and finds the peers of each service only once:
 * after a reload every connected identity needs a new view. Lists are sorted, so equal rights give equal views.
 */
export function createViewCompiler(
  snapshot: PolicySnapshot,
  options: ViewOptions,
): (id: string) => ViewClaims {
  const known = [...new Set(options.knownIdentities)].sort()
    .map((id) => ({ id, rights: snapshot.rightsOf(id) }));
  const peers = (allows: (rights: Rights, service: string) => boolean) => {
    const found = new Map<string, readonly string[]>();
    return (service: string): readonly string[] => {
      const cached = found.get(service);
      if (cached !== undefined) return cached;
      const ids = known.filter(({ rights }) => allows(rights, service)).map(({ id }) => id);
      found.set(service, ids);
      return ids;
    };
  };
  const binders = peers(mayBind);
  const dialers = peers(mayDial);
  const iat = Math.floor(options.now / 1000);
  return (id) => {
    const rights = snapshot.rightsOf(id);
    const dial: ViewDial[] = [];
    const bind: ViewBind[] = [];
    for (const service of snapshot.serviceNames) {
      const endToEnd = snapshot.service(service)!.endToEnd;
      if (mayDial(rights, service)) dial.push({ service, endToEnd, bind: binders(service) });
      if (mayBind(rights, service)) bind.push({ service, endToEnd, dial: dialers(service) });
    }
    return {
      rev: options.revision,
      sub: id,
      iat,
      exp: Math.floor((options.now + options.ttl) / 1000),
      dial,
      bind,
    };
  };
}

function mayDial(rights: Rights, service: string): boolean {
  return rights.mayDial(service).verdict === "allow";
}

function mayBind(rights: Rights, service: string): boolean {
  return rights.mayBind(service).verdict === "allow";
}
