/** Transactions that end with a value or a refusal: a refusal rolls back and is returned, anything else is thrown. */

import type { AdminFault, Outcome } from "../../core/network/administration.ts";
import type { Store, StoreTransaction, Written } from "../store.ts";

/** Ends a transaction without effect; {@linkcode decide} turns it into a value. */
class Refused extends Error {
  readonly fault: AdminFault;

  constructor(fault: AdminFault) {
    super(fault.fault);
    this.name = "Refused";
    this.fault = fault;
  }
}

/** Runs one transaction. */
export async function decide<T>(
  store: Pick<Store, "transaction">,
  work: (tx: StoreTransaction) => Promise<T>,
): Promise<Outcome<T>> {
  try {
    return { ok: true, value: await store.transaction(work) };
  } catch (error) {
    if (error instanceof Refused) return { ok: false, ...error.fault };
    throw error;
  }
}

/** Ends the transaction with a refusal. */
export function refuse(fault: AdminFault): never {
  throw new Refused(fault);
}

/** The value of a write, or the refusal that follows from its fault. */
export function written<T>(outcome: Written<T>): T {
  return outcome.ok ? outcome.value : refuse({ fault: outcome.fault });
}

/** A value that must be there. */
export function present<T>(value: T | undefined): T {
  return value ?? refuse({ fault: "missing" });
}
