/** What a controller tells a relay that follows it, in order. */

import type { NetworkChange } from "../../core/network/changes.ts";
import type { NetworkState } from "../../core/network/state.ts";

/** A signed view for one identity. */
export interface SignedView {
  /** SPIFFE ID. */
  readonly identity: string;
  readonly jws: string;
}

/** Where a follower stands: revisions are comparable only within one epoch, which a restored backup ends. */
export interface SyncPosition {
  readonly epoch: string;
  readonly revision: number;
}

/** One event of the stream. */
export type SyncEvent =
  /** Everything: at the start, or when the follower fell too far behind. */
  | { readonly type: "snapshot"; readonly epoch: string; readonly state: NetworkState }
  /** What differs from the state before; without changes: the follower is up to date. */
  | { readonly type: "changes"; readonly revision: number; readonly changes: readonly NetworkChange[] }
  /** New views of identities the follower wants; also renewals of unchanged ones. */
  | { readonly type: "views"; readonly views: readonly SignedView[] }
  /** The signed network document, for nodes. */
  | { readonly type: "network"; readonly jws: string }
  /** The addresses of this identity are no longer its own. */
  | { readonly type: "released"; readonly identity: string }
  /** An administrator ended a session of this relay. */
  | { readonly type: "ended"; readonly session: string }
  /** The controller lives; `time` is its clock, milliseconds since the epoch. */
  | { readonly type: "heartbeat"; readonly revision: number; readonly time: number };

/** Milliseconds between heartbeats. */
export const HEARTBEAT_MS = 2_000;

/** Milliseconds without any event after which a follower counts as cut off. */
export const HEARTBEAT_DEADLINE_MS = 6_000;
