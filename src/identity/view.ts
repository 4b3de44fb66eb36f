/**
 * Signed views: the rights of one identity as the network's authority states them.
 */

import type { JWK } from "jose";
import type { Authority } from "./authority.ts";
import type { SpiffeId } from "./spiffe_id.ts";

/** Whether a service insists on an end-to-end session. */
export type EndToEnd = "required" | "optional";

/** A service the subject may Dial, and who may Bind it. */
export interface ViewDial {
  readonly service: string;
  readonly endToEnd: EndToEnd;
  /** SPIFFE IDs. */
  readonly bind: readonly string[];
}

/** A service the subject may Bind, and who may Dial it. */
export interface ViewBind {
  readonly service: string;
  readonly endToEnd: EndToEnd;
  /** SPIFFE IDs. */
  readonly dial: readonly string[];
}

/** What one identity may do, as of one revision. */
export interface View {
  readonly rev: number;
  /** SPIFFE ID of the subject. */
  readonly sub: string;
  /** Seconds since the epoch. */
  readonly iat: number;
  /** Seconds since the epoch. */
  readonly exp: number;
  readonly dial: readonly ViewDial[];
  readonly bind: readonly ViewBind[];
}

/** Signs a view. */
export function signView(_options: { readonly authority: Authority; readonly view: View }): Promise<string> {
  return Promise.reject(new Error("Not written yet"));
}

/** How to judge a view. */
export interface VerifyViewOptions {
  /** Public keys that may sign views. */
  readonly authorities: readonly JWK[];
  readonly subject: SpiffeId;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Views of an older revision are refused. */
  readonly minRevision?: number;
}

/** Verifies a signed view; throws an `IdentityError` with an `ERR_VIEW_*` code. */
export function verifyView(_jws: string, _options: VerifyViewOptions): Promise<View> {
  return Promise.reject(new Error("Not written yet"));
}
