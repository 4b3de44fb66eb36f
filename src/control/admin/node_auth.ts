/** Which nodes the controller speaks to: those with a valid proof whose identity is known, enabled and not revoked. */

import { DeadlineError, withDeadline } from "../../base/async.ts";
import { GinnelError } from "../../base/errors.ts";
import { IdentityError } from "../../identity/errors.ts";
import type { VerifiedProof } from "../../identity/proof.ts";
import type { Store } from "../store.ts";

/** Milliseconds that the database may take to say who somebody is. */
const PATIENCE_MS = 3_000;

/** What it needs. */
export interface NodeAuthOptions {
  readonly store: Pick<Store, "find" | "certificate">;
  /** Verifies a proof for this controller; throws an `IdentityError`. */
  readonly verify: (token: string) => Promise<VerifiedProof>;
}

/** Verifies proofs and that the controller still knows who shows them. */
export class NodeAuth {
  readonly #options: NodeAuthOptions;

  constructor(options: NodeAuthOptions) {
    this.#options = options;
  }

  /** Returns whose proof it is; throws an `IdentityError` whose code says why not. */
  async verify(token: string): Promise<VerifiedProof> {
    const { store, verify } = this.#options;
    const proof = await verify(token);
    const { uri } = proof.id;
    const [identity, certificate] = await inTime(async () => [
      await store.find("identity", uri),
      await store.certificate(proof.certificateSerial),
    ]);
    if (identity?.spec.spiffeId !== uri || identity.spec.disabled) {
      throw new IdentityError(
        "ERR_CERT_REVOKED",
        `${uri} is not an identity of this network, or is disabled`,
        {
          hint: "Ask an administrator to enable it or to let it enrol",
        },
      );
    }
    if (certificate !== undefined && certificate.revokedAt !== null) {
      throw new IdentityError("ERR_CERT_REVOKED", `The certificate of ${uri} was revoked`, {
        hint: "Enrol again with a new token",
      });
    }
    return proof;
  }
}

/** A node that is told soon that the database hangs asks another controller. */
async function inTime<T>(look: () => Promise<T>): Promise<T> {
  try {
    return await withDeadline(PATIENCE_MS, look);
  } catch (cause) {
    if (!(cause instanceof DeadlineError)) throw cause;
    throw new GinnelError("ERR_DATABASE_AWAY", "The database does not answer", { cause });
  }
}
