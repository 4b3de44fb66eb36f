/**
 * What a relay asks of its controller, whether that lives in its own process or behind HTTPS. Methods reject with a
 * `GinnelError`: `ERR_CONTROLLER_UNAVAILABLE` when no controller answers, which is worth another try, and
 * `ERR_CONTROLLER_REFUSED` when one says no.
 */

import { GinnelError, type GinnelErrorOptions } from "../../base/errors.ts";
import type { AuditFact } from "../../core/network/audit_entry.ts";
import type { AllocationResult, RelayStatus, SessionRecord } from "../store.ts";
import type { SyncEvent, SyncPosition } from "./events.ts";

/** Sessions, audit facts and status of one relay. */
export interface RelayReport {
  /** Unique for this relay: a batch that arrives twice counts once. */
  readonly batch: string;
  readonly sessions: readonly SessionRecord[];
  readonly audit: readonly AuditFact[];
  readonly status: RelayStatus;
  /** The relay has just started: sessions it left open before are over. */
  readonly isFirst?: boolean;
}

/** Largest number of sessions, and of audit facts, in one report. */
export const MAX_REPORT_ENTRIES = 1_000;

/** An allocation, or why there is none; `unknown`: no such identity, or it is disabled. */
export type LinkAllocation = AllocationResult | { readonly ok: false; readonly fault: "unknown" };

/** A relay's link to its controller. */
export interface ControllerLink {
  /**
   * Everything from `since` on, or a snapshot; ends when the connection does, and rejects when there is none. One
   * stream at a time.
   */
  follow(
    options: { readonly since: SyncPosition | undefined; readonly signal: AbortSignal },
  ): AsyncIterable<SyncEvent>;
  /** Which identities' views are to come on the living stream; a new stream begins with none. */
  wantViews(
    change: { readonly add: readonly string[]; readonly remove: readonly string[] },
  ): Promise<void>;
  report(report: RelayReport): Promise<void>;
  /** Gives an identity (SPIFFE ID) its tunnel addresses: the same at every relay. */
  allocate(
    identity: string,
    options?: { readonly metadata?: Readonly<Record<string, unknown>> },
  ): Promise<LinkAllocation>;
  /** Notes that these identities use their addresses now. */
  touch(identities: readonly string[]): Promise<void>;
  /** Gives up an identity's addresses; false when it had none, or has a session at another relay. */
  release(identity: string): Promise<boolean>;
  /** Asks that a workload of a foreign trust domain be known; true when its domain's rules admit it. */
  admitWorkload(spiffeId: string): Promise<boolean>;
}

/** A controller did not answer, or refused. */
export class ControllerError extends GinnelError {
  constructor(
    code: "ERR_CONTROLLER_UNAVAILABLE" | "ERR_CONTROLLER_REFUSED",
    message: string,
    options: GinnelErrorOptions = {},
  ) {
    super(code, message, options);
  }
}
