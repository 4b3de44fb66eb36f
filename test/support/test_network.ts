/**
 * A network of identities for tests: one CA, and whatever certificates a test asks for.
 */

import { type CaBundle, createCa, issueCertificate } from "../../src/identity/pki.ts";
import type { IdentityKind } from "../../src/identity/spiffe_id.ts";
import type { SessionIdentity } from "../../src/dataplane/session_handshake.ts";

/** A CA and the means to issue. */
export interface TestNetwork {
  readonly ca: CaBundle;
  /** Root certificates, PEM. */
  readonly roots: readonly string[];
  issue(kind: IdentityKind, name: string, options?: { readonly days?: number }): Promise<SessionIdentity>;
}

/** Makes a network with a CA of its own. */
export async function testNetwork(trustDomain = "test.example"): Promise<TestNetwork> {
  const ca = await createCa({ trustDomain, now: Date.now(), days: 30 });
  return {
    ca,
    roots: [ca.certificatePem],
    issue: async (kind, name, { days = 1 } = {}) => {
      const issued = await issueCertificate(ca, { kind, name, now: Date.now(), days });
      return { ...issued, privateKeyPem: issued.privateKeyPem! };
    },
  };
}
