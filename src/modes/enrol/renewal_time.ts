/** When a certificate is due for renewal. */

import { parseCertificate } from "../../identity/certificate.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { BACKDATE_MILLISECONDS } from "../../identity/pki.ts";
import { decodePem } from "../../identity/pem.ts";

/** Share of a life after which a certificate is renewed. */
const RENEW_AFTER = 2 / 3;

/** Share of a life over which nodes that were enrolled together spread. */
const SPREAD = 1 / 20;

/** Nodes spread over so many milliseconds when another CA begins to issue. */
const URGENT_SPREAD = 30_000;

/** When to renew, milliseconds since the epoch; `random`, in [0, 1), is the node's own and stays the same. */
export function renewalTime(identity: Pick<Identity, "chainDer" | "trust">, random: number): number {
  const { issuedAt, notAfter } = lifeOf(identity);
  return issuedAt + (notAfter - issuedAt) * (RENEW_AFTER + SPREAD * random);
}

/** Milliseconds to wait before a renewal that is urgent: not long, but not all nodes at once. */
export function urgentDelay(identity: Pick<Identity, "chainDer">, random: number): number {
  const { issuedAt, notAfter } = lifeOf(identity);
  return Math.min(URGENT_SPREAD, (notAfter - issuedAt) * SPREAD) * random;
}

/** Tells whether another CA issues now than the one the certificate is from: the first of the trusted ones. */
export function isFromFormerCa({ chainDer, trust }: Pick<Identity, "chainDer" | "trust">): boolean {
  const [issuing] = trust.roots;
  if (issuing === undefined || trust.roots.length === 1) return false;
  const last = parseCertificate(chainDer.at(-1)!);
  const root = parseCertificate(decodePem("CERTIFICATE", issuing)[0]!);
  return last.issuer !== root.subject || !last.platform.verify(root.platform.publicKey);
}

/** Certificates are dated back; a short life must not seem over when it begins. */
function lifeOf({ chainDer }: Pick<Identity, "chainDer">): { issuedAt: number; notAfter: number } {
  const { notBefore, notAfter } = parseCertificate(chainDer[0]!);
  return { issuedAt: Math.min(notBefore + BACKDATE_MILLISECONDS, notAfter), notAfter };
}
