/** Which nodes the controller speaks to: those with a valid proof whose identity is known, enabled and not revoked. */

import { IdentityError } from "../../identity/errors.ts";
import type { VerifiedProof } from "../../identity/proof.ts";
import type { Store } from "../store.ts";

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
    const identity = await store.find("identity", uri);
    if (identity?.spec.spiffeId !== uri || identity.spec.disabled) {
      throw new IdentityError(
        "ERR_CERT_REVOKED",
        `${uri} is not an identity of this network, or is disabled`,
        {
          hint: "Ask an administrator to enable it or to let it enrol",
        },
      );
    }
    const certificate = await store.certificate(proof.certificateSerial);
    if (certificate !== undefined && certificate.revokedAt !== null) {
      throw new IdentityError("ERR_CERT_REVOKED", `The certificate of ${uri} was revoked`, {
        hint: "Enrol again with a new token",
      });
    }
    return proof;
  }
}
