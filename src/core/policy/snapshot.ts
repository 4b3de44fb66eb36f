/**
 * A policy document compiled for fast decisions. A snapshot never changes: a reload makes a new one.
 */

import type { Decision } from "./decision.ts";
import type { PolicyDocument, PolicyService } from "./document.ts";

/** How to compile. */
export interface CompileOptions {
  /**
   * The network's own trust domain: with it, bare names, `kind/name` and `#all` select only identities of that
   * domain. Without it any SPIFFE ID of Ginnel's form counts as one of the network's.
   */
  readonly trustDomain?: string;
}

/** A role that selects nothing at the moment; allowed, since the other half may be declared later. */
export interface PolicyWarning {
  readonly policy: string;
  readonly role: string;
  readonly reason: "undeclared_service" | "undeclared_identity" | "attribute_nobody_has";
}

/** Answers every rights question of one policy revision; default deny. */
export interface PolicySnapshot {
  /** Roles that select nothing, for the log. */
  readonly warnings: readonly PolicyWarning[];
  /** May this identity (a SPIFFE ID) reach the service? */
  mayDial(id: string, service: string): Decision;
  /** May this identity (a SPIFFE ID) offer the service? */
  mayBind(id: string, service: string): Decision;
  /** Names of the services the identity may Dial or Bind, sorted: all that it may know of. */
  visibleServices(id: string): readonly string[];
  /** The declared service, or undefined. */
  service(name: string): PolicyService | undefined;
  /** SPIFFE IDs the document spells out in full. */
  readonly declaredIds: readonly string[];
}

/** Compiles a document; it does not throw, what selects nothing is listed in `warnings`. */
export function compilePolicy(_document: PolicyDocument, _options: CompileOptions = {}): PolicySnapshot {
  throw new Error("not yet");
}
