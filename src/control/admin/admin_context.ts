/** What the parts of the administration share: the store, the clock, and how a change enters the audit log. */

import type { Principal } from "../../core/network/access.ts";
import type { FieldProblem, Outcome } from "../../core/network/administration.ts";
import type { ServiceNetwork } from "../../core/service/catalogue.ts";
import type { Resource } from "../../core/network/resources.ts";
import type { AllocationOptions, Enrolment, SessionRecord, Store, StoreTransaction } from "../store.ts";
import { adminFact } from "./admin_audit.ts";
import { decide } from "./decide.ts";

/** What the administration needs. */
export interface NetworkAdminOptions {
  readonly store: Store;
  readonly trustDomain: string;
  /** Who writes the audit entries: the controller's SPIFFE ID. */
  readonly source: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** How services appear on machines. */
  readonly services: ServiceNetwork;
  /** What is wrong with an egress policy's document. */
  readonly validateEgress: (document: Readonly<Record<string, unknown>>) => readonly FieldProblem[];
  /** Makes a one-time token for an identity, unless it cannot enrol, and stores its enrolment. */
  readonly createEnrolmentToken: (
    identityId: string,
    options: { readonly ttlMs?: number; readonly by: string },
  ) => Promise<Outcome<{ readonly token: string; readonly enrolment: Enrolment }>>;
  /** The network's CA certificates, PEM, the issuing one first. */
  readonly roots: () => readonly string[];
  /** How addresses are given to a client now. */
  readonly allocation: (clientId: string, now: number) => AllocationOptions;
  /** Tells the relay that holds a session to end it. */
  readonly endSession: (session: SessionRecord) => Promise<void>;
}

/** What is to be noted of a change. */
export interface ChangeNote {
  readonly action: string;
  readonly before?: Resource;
  readonly after?: Resource;
  readonly detail?: Readonly<Record<string, unknown>>;
}

/** Runs administrators' changes together with their audit facts. */
export class AdminContext {
  readonly options: NetworkAdminOptions;

  constructor(options: NetworkAdminOptions) {
    this.options = options;
  }

  /** One transaction; `note` adds to the audit log what it did. */
  async change<T>(
    by: Principal,
    work: (tx: StoreTransaction, note: (change: ChangeNote) => Promise<void>) => Promise<T>,
  ): Promise<Outcome<T>> {
    const { store } = this.options;
    return await decide(store, (tx) => work(tx, (change) => tx.audit(this.#fact(by, change))));
  }

  /** Notes what was done outside of a transaction. */
  async note(by: Principal, change: ChangeNote & { readonly target: string; readonly outcome?: string }) {
    const { target, outcome = "ok", ...rest } = change;
    await this.options.store.appendAudit([{ ...this.#fact(by, rest), target, outcome }]);
  }

  #fact(by: Principal, change: ChangeNote) {
    const { now, source } = this.options;
    return adminFact({ ...change, time: now(), source, who: by.who });
  }
}
