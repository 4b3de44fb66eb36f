/** The part of a policy that one identity needs to enforce it by itself: what it may Dial and Bind, with whom. */

import type { EndToEnd } from "./document.ts";
import type { PolicySnapshot } from "./snapshot.ts";

/** A service the subject may Dial, and who may Bind it. */
export interface ViewDial {
  readonly service: string;
  readonly endToEnd: EndToEnd;
  readonly bind: readonly string[];
}

/** A service the subject may Bind, and who may Dial it. */
export interface ViewBind {
  readonly service: string;
  readonly endToEnd: EndToEnd;
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

/** What a view depends on besides the policy. */
export interface ViewOptions {
  readonly revision: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Milliseconds. */
  readonly ttl: number;
  /** SPIFFE IDs that may appear in the view: those declared and those connected. */
  readonly knownIdentities: Iterable<string>;
}

/** Compiles the view of one identity; lists are sorted, so equal rights give equal views. */
export function compileView(_snapshot: PolicySnapshot, _id: string, _options: ViewOptions): ViewClaims {
  throw new Error("not yet");
}
